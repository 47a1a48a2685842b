//! What an object store says when it fails, in few words, and whether waiting helps.

use std::io::{self, ErrorKind};

use object_store::Error;

/// Messages are cut off behind so many characters: some servers answer with pages.
const MESSAGE_CHARACTERS_MAX: usize = 300;

/// What an object store said, as an error of a disk: the kind says whether it may pass.
pub(super) fn to_io(error: &Error) -> io::Error {
    let text = whole(error);
    let status = status(&text);
    let kind = match error {
        // Where one is asked for an object that is not there, it is no error.
        Error::NotFound { .. } => ErrorKind::InvalidInput,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => ErrorKind::PermissionDenied,
        Error::NotImplemented { .. } | Error::NotSupported { .. } => ErrorKind::Unsupported,
        Error::InvalidPath { .. } | Error::UnknownConfigurationKey { .. } => ErrorKind::InvalidInput,
        _ => match status {
            Some(401 | 403) => ErrorKind::PermissionDenied,
            Some(501) => ErrorKind::Unsupported,
            // Too many requests, or too slow: it passes.
            Some(408 | 409 | 425 | 429) => ErrorKind::Other,
            Some(300..=499) => ErrorKind::InvalidInput,
            Some(507) => ErrorKind::StorageFull,
            Some(_) => ErrorKind::Other,
            None if text.contains("redirect without LOCATION") => ErrorKind::InvalidInput,
            None => ErrorKind::Other,
        },
    };
    io::Error::new(kind, in_words(&text, status))
}

/// Whether what failed was to ask the machine for credentials, which it has when it is one of a cloud.
pub(super) fn is_about_credentials(error: &Error) -> bool {
    let text = whole(error);
    text.contains("/latest/api/token") || text.contains("/iam/security-credentials")
}

/// Whether there is no such bucket, rather than no such object.
pub(super) fn is_about_bucket(error: &Error) -> bool {
    whole(error).contains("NoSuchBucket")
}

/// The error and its causes, each once.
fn whole(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let of_cause = error.to_string();
        if !text.contains(&of_cause) {
            text = format!("{text}: {of_cause}");
        }
        cause = error.source();
    }
    text
}

/// The status of the answer in a message, as in `non-2xx status code: 503 Service Unavailable: …`.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// The message without what it says of retries, and of a page of XML no more than its code and message: the rest of it may tell of
/// keys and signatures.
fn in_words(text: &str, status: Option<u16>) -> String {
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let words = match status {
        Some(status) => {
            let said = [element("Code"), element("Message")];
            let said: Vec<String> = said.into_iter().flatten().collect();
            format!(
                "the store answers with status {status}{}{}",
                if said.is_empty() { "" } else { ": " },
                said.join(": ")
            )
        }
        None => {
            // `Generic S3 error: Error performing PUT http://… in 1.2s, after 3 retries, … - HTTP error: error sending request: …`
            let rest = text.split_once(" - ").map_or(text, |(_, rest)| rest);
            let rest = rest.strip_prefix("HTTP error: ").unwrap_or(rest);
            format!("the store does not answer: {rest}")
        }
    };
    match words.char_indices().nth(MESSAGE_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, kind: ErrorKind, words: &str) {
        let error = Error::Generic { store: "S3", source: message.into() };
        let found = to_io(&error);
        assert_eq!((found.kind(), found.to_string().as_str()), (kind, words));
    }

    #[test]
    fn what_a_store_says_is_told_in_few_words() {
        check(
            "Error performing PUT http://127.0.0.1:1/b/p/lease in 1.2s, after 3 retries, max_retries: 3, retry_timeout: 10s  - Server \
             returned non-2xx status code: 503 Service Unavailable: <Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>",
            ErrorKind::Other,
            "the store answers with status 503: SlowDown: Reduce your rate",
        );
        check(
            "Error performing list request: Error performing GET http://h/b?list in 2ms - Server returned non-2xx status code: 403 \
             Forbidden: <Error><Code>SignatureDoesNotMatch</Code><Message>It does not match</Message><AWSAccessKeyId>AKIA</AWSAccessKeyId>\
             </Error>",
            ErrorKind::PermissionDenied,
            "the store answers with status 403: SignatureDoesNotMatch: It does not match",
        );
        check(
            "Error performing GET http://h/b in 2ms - HTTP error: error sending request: tcp connect error",
            ErrorKind::Other,
            "the store does not answer: error sending request: tcp connect error",
        );
        let cut = "x".repeat(1000);
        let error = Error::Generic { store: "S3", source: cut.into() };
        assert_eq!(to_io(&error).to_string().chars().count(), MESSAGE_CHARACTERS_MAX + 1);
        check("status code: 501 Not Implemented: ", ErrorKind::Unsupported, "the store answers with status 501");
        check("status code: 400 Bad Request: ", ErrorKind::InvalidInput, "the store answers with status 400");
    }
}
