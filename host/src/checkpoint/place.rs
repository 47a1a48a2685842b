//! Where a checkpoint is: a directory, or a folder of an object store.

use std::fmt;
use std::path::{Path, PathBuf};

use object_store::ObjectStoreScheme;
use object_store::aws::AmazonS3ConfigKey;
use object_store::path::Path as ObjectPath;
use url::Url;

/// Where a checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A folder of an object store.
    ObjectStore(ObjectPlace),
}

/// Why a text names no place for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PlaceMistake {
    /// What is wrong with it, behind the words "it" or the key's name.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Place {
    /// The place that a text names: an URL with `//`, or the path of a directory.
    ///
    /// # Errors
    ///
    /// When it is the URL of something that keeps no checkpoints.
    ///
    /// # Examples
    ///
    /// ```
    /// use tidemill::checkpoint::Place;
    ///
    /// assert!(matches!(Place::parse("checkpoints/clicks"), Ok(Place::Directory(_))));
    /// assert!(matches!(Place::parse("s3://bucket/clicks"), Ok(Place::ObjectStore(_))));
    /// assert!(Place::parse("ftp://host/clicks").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, PlaceMistake> {
        if ObjectPlace::is_meant(text) {
            return ObjectPlace::parse(text).map(Self::ObjectStore);
        }
        let path = text.strip_prefix("file://").unwrap_or(text);
        Ok(Self::Directory(PathBuf::from(path)))
    }

    /// The directory, if it is one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::ObjectStore(_) => None,
        }
    }
}

impl From<PathBuf> for Place {
    fn from(path: PathBuf) -> Self {
        Self::Directory(path)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::ObjectStore(place) => f.write_str(place.url()),
        }
    }
}

/// A folder of an object store, and how it is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectPlace {
    url: String,
    prefix: ObjectPath,
    options: Vec<(AmazonS3ConfigKey, String)>,
}

impl fmt::Debug for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What options say may be a secret.
        let keys: Vec<&str> = self.options.iter().map(|(key, _)| key.as_ref()).collect();
        f.debug_struct("ObjectPlace").field("url", &self.url).field("options", &keys).finish_non_exhaustive()
    }
}

/// What an option is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OptionKind {
    Text,
    Boolean,
    Duration,
}

/// The options of `[job.checkpoint-options]`. Each is one of the `object_store` crate's, by the same name with `_`.
pub(crate) const OPTIONS: [(&str, OptionKind); 18] = [
    ("access-key-id", OptionKind::Text),
    ("secret-access-key", OptionKind::Text),
    ("session-token", OptionKind::Text),
    ("region", OptionKind::Text),
    ("endpoint", OptionKind::Text),
    ("allow-http", OptionKind::Boolean),
    ("allow-invalid-certificates", OptionKind::Boolean),
    ("virtual-hosted-style-request", OptionKind::Boolean),
    ("skip-signature", OptionKind::Boolean),
    ("unsigned-payload", OptionKind::Boolean),
    ("request-payer", OptionKind::Boolean),
    ("s3-express", OptionKind::Boolean),
    ("server-side-encryption", OptionKind::Text),
    ("sse-kms-key-id", OptionKind::Text),
    ("sse-bucket-key-enabled", OptionKind::Boolean),
    ("connect-timeout", OptionKind::Duration),
    ("timeout", OptionKind::Duration),
    ("proxy-url", OptionKind::Text),
];

impl ObjectPlace {
    /// Whether a text is meant as the URL of something else than a file of this machine.
    pub(crate) fn is_meant(text: &str) -> bool {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        scheme.is_some_and(|scheme| {
            !scheme.eq_ignore_ascii_case("file")
                && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        })
    }

    /// The folder that an URL names.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PlaceMistake> {
        let mistake = |message: &str, hint: &str| PlaceMistake { message: message.into(), hint: Some(hint.into()) };
        let shape = "Write `s3://bucket/folder`, or the path of a folder.";
        let url = Url::parse(text).map_err(|error| mistake(&format!("is no URL: {error}"), shape))?;
        if !url.username().is_empty() || url.password().is_some() {
            let hint = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write `access-key-id = \"${NAME}\"` in \
                        `[job.checkpoint-options]`.";
            return Err(mistake("holds credentials, which would be seen in messages", hint));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(mistake("holds `?` or `#`", "Options stand in `[job.checkpoint-options]`."));
        }
        let kind = format!("is a URL of kind `{}:`, which keeps no checkpoints", url.scheme());
        match ObjectStoreScheme::parse(&url) {
            Ok((ObjectStoreScheme::AmazonS3, prefix)) => {
                Ok(Self { url: text.trim_end_matches('/').to_owned(), prefix, options: Vec::new() })
            }
            Ok(_) => Err(mistake(&kind, shape)),
            Err(_) if matches!(url.scheme(), "s3" | "s3a") => Err(mistake("names no bucket", shape)),
            Err(_) => Err(mistake(&kind, shape)),
        }
    }

    /// Sets an option of [`OPTIONS`].
    pub(crate) fn set(&mut self, option: &str, value: String) {
        // Every option of the list is a key: a test sees to it.
        if let Ok(key) = option.replace('-', "_").parse() {
            self.options.push((key, value));
        }
    }

    /// Its URL, without a `/` at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn prefix(&self) -> ObjectPath {
        self.prefix.clone()
    }

    pub(super) fn options(&self) -> impl Iterator<Item = (AmazonS3ConfigKey, String)> {
        self.options.iter().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, &str), &str>) {
        let found = ObjectPlace::parse(text).map(|place| (place.url.clone(), place.prefix.to_string()));
        let found = found.map_err(|mistake| mistake.message);
        assert_eq!(found, expected.map(|(url, prefix)| (url.into(), prefix.into())).map_err(String::from));
    }

    #[test]
    fn urls_name_folders_of_buckets() {
        check("s3://bucket/a/b", Ok(("s3://bucket/a/b", "a/b")));
        check("s3://bucket/a/b/", Ok(("s3://bucket/a/b", "a/b")));
        check("s3a://bucket", Ok(("s3a://bucket", "")));
        check("https://s3.eu-west-1.amazonaws.com/bucket/a", Ok(("https://s3.eu-west-1.amazonaws.com/bucket/a", "a")));
        check("s3:///a", Err("names no bucket"));
        check("s3://key:secret@bucket/a", Err("holds credentials, which would be seen in messages"));
        check("s3://bucket/a?region=x", Err("holds `?` or `#`"));
        check("gs://bucket/a", Err("is a URL of kind `gs:`, which keeps no checkpoints"));
        check("https://example.org/a", Err("is a URL of kind `https:`, which keeps no checkpoints"));
        check("memory://x/a", Err("is a URL of kind `memory:`, which keeps no checkpoints"));
    }

    #[test]
    fn what_is_no_url_is_a_directory() {
        for path in ["checkpoints/a", "/a/b", "file:///a/b", "c:\\a", "a b://c"] {
            assert!(!ObjectPlace::is_meant(path), "{path}");
        }
        assert_eq!(Place::parse("file:///a/b").map(|place| place.to_string()), Ok("/a/b".to_owned()));
        assert!(ObjectPlace::is_meant("S3://bucket/a"));
    }

    #[test]
    fn every_option_is_one_of_the_store_and_no_secret_is_shown() {
        let mut place = ObjectPlace::parse("s3://bucket/a").expect("an URL");
        for (option, _) in OPTIONS {
            let key: Result<AmazonS3ConfigKey, _> = option.replace('-', "_").parse();
            assert!(key.is_ok(), "{option}");
            place.set(option, "hush".into());
        }
        assert_eq!(place.options.len(), OPTIONS.len());
        assert!(!format!("{place:?}").contains("hush"));
    }
}
