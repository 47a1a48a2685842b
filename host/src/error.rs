//! What every error says: what happened, whose turn it is, whether trying again helps, what to change.

use std::fmt;

/// Who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Whoever wrote the job file or the plugin.
    User,
    /// Whoever runs what Tidemill talks to: a disk, a socket, a server.
    External,
    /// Whoever maintains Tidemill: this is a bug.
    Host,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::User => "user",
            Fault::External => "external",
            Fault::Host => "host",
        })
    }
}

/// What the scheduler does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same input would fail again.
    Never,
    /// It may pass: try again some times, after a pause that grows.
    WithBackoff,
    /// Somebody must make room or bring something up, and nothing is lost meanwhile: try again for as long as it takes.
    UntilItPasses,
}

/// An error that answers the reader's questions.
///
/// The message (`Display`) says what happened and where, starts small, has no full stop and does not repeat its
/// cause: the printer walks `source()`.
pub trait Explain: std::error::Error + Send + Sync + 'static {
    /// Who must act.
    fn fault(&self) -> Fault;

    /// Whether trying again helps.
    fn retry(&self) -> Retry {
        Retry::Never
    }

    /// One or two sentences on what the reader can change, naming the key.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Any error of the host.
///
/// # Examples
///
/// ```
/// use tidemill::error::{Error, Explain, Fault};
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("the disk is full")]
/// struct DiskFull;
/// impl Explain for DiskFull {
///     fn fault(&self) -> Fault { Fault::External }
///     fn hint(&self) -> Option<String> { Some("Free some space.".into()) }
/// }
///
/// let error: Error = DiskFull.into();
/// assert_eq!(error.report(), "error: the disk is full\n\nhint: Free some space.\n");
/// ```
pub struct Error(Box<dyn Explain>);

impl Error {
    /// The message, its causes and the hint, as they are shown on a terminal.
    #[must_use]
    pub fn report(&self) -> String {
        use fmt::Write;
        let mut text = format!("error: {}\n", self.0);
        let mut cause = self.0.source();
        while let Some(error) = cause {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  caused by: {error}");
            cause = error.source();
        }
        if let Some(hint) = self.0.hint() {
            let _ = write!(text, "\nhint: {hint}\n");
        }
        text
    }

    /// The message and its causes in one line, for a log.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// Who must act.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.0.fault()
    }

    /// Whether trying again helps.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.0.retry()
    }

    /// What the reader can change.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.0.hint()
    }

    /// The error as what it was made from, if it is an `E`.
    #[must_use]
    pub fn downcast_ref<E: Explain>(&self) -> Option<&E> {
        let any: &(dyn std::error::Error + 'static) = &*self.0;
        any.downcast_ref::<E>()
    }
}

impl<E: Explain> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// What goes wrong inside the host although it must not: arrow kernels on data that was checked.
#[derive(Debug, thiserror::Error)]
#[error("internal error while {doing}")]
pub struct Internal {
    /// What was being done, as in "gathering the carried columns of step `words`".
    pub doing: String,
    /// What arrow said.
    #[source]
    pub source: arrow::error::ArrowError,
}

impl Explain for Internal {
    fn fault(&self) -> Fault {
        Fault::Host
    }

    fn hint(&self) -> Option<String> {
        Some("This is a bug in Tidemill: please report it with the job file.".into())
    }
}
/// What a plugin, or bad input, says of itself: on one line, and no longer than is worth reading.
pub(crate) fn shortened(reason: &str, chars_max: usize) -> String {
    let mut shown = String::new();
    for char in reason.chars().take(chars_max) {
        if char.is_control() {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    if reason.chars().nth(chars_max).is_some() {
        shown.push('…');
    }
    shown
}
