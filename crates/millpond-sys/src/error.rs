//! The one error of this crate: which operation failed, and with which number.

use std::fmt;

use rustix::io::Errno;

/// A system call that the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    operation: &'static str,
    errno: Errno,
}

impl Error {
    /// Makes an error that says that `operation` failed with `errno`.
    pub(crate) const fn new(operation: &'static str, errno: Errno) -> Self {
        Self { operation, errno }
    }

    /// Returns what makes an error of `operation` from a number, for `map_err`.
    pub(crate) const fn of(operation: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self { operation, errno }
    }

    /// Returns the same failure under the name of the larger operation that it broke.
    pub(crate) const fn during(self, operation: &'static str) -> Self {
        Self { operation, errno: self.errno }
    }

    /// Returns the operation that failed, for example `memfd_create`.
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// Returns the number that the kernel gave.
    pub const fn raw_os_error(&self) -> i32 {
        self.errno.raw_os_error()
    }

    /// Tells whether this kernel, file system or sandbox lacks or denies the call.
    ///
    /// Next step: take the fallback, and do not try again.
    pub fn is_not_supported(&self) -> bool {
        [Errno::NOSYS, Errno::PERM, Errno::INVAL, Errno::OPNOTSUPP].contains(&self.errno)
    }

    /// Tells whether memory, or room in the file system that stands for it, ran out.
    ///
    /// Running out of descriptors is not meant.
    ///
    /// Next step: give memory back and try again, or report it to the user.
    pub fn is_out_of_memory(&self) -> bool {
        [Errno::NOMEM, Errno::NOSPC].contains(&self.errno)
    }

    /// Tells whether the process in question has ended and was reaped, or never was.
    pub fn is_no_such_process(&self) -> bool {
        self.errno == Errno::SRCH
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The standard library's text is "No such process (os error 3)".
        let text = std::io::Error::from(self.errno).to_string();
        let text = text.split(" (os error ").next().unwrap_or_default();
        let mut chars = text.chars();
        let first = chars.next().map(|first| first.to_ascii_lowercase());
        let (operation, number) = (self.operation, self.raw_os_error());
        write!(f, "{operation}: ")?;
        first.map_or(Ok(()), |first| write!(f, "{first}"))?;
        write!(f, "{} (errno {number})", chars.as_str())
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    /// Keeps the kind and the whole message; the number is in [`Error::raw_os_error`] of the inner
    /// error, because an `io::Error` holds a number or a message and not both.
    fn from(error: Error) -> Self {
        Self::new(error.errno.kind(), error)
    }
}
