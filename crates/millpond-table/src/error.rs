//! The crate's one error.

/// What can be wrong with a table: a peer wrote what no peer of ours writes, or the memory is not a
/// table at all.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] Kind);

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error("shared memory is not a Millpond table: {0}")]
    NotATable(&'static str),
    #[error("shared memory is damaged: {what} is {value}, the limit is {limit}")]
    Damaged { what: &'static str, value: u64, limit: u64 },
}

impl Error {
    /// Whether a value that a peer wrote lies outside what the protocol allows.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        matches!(self.0, Kind::Damaged { .. })
    }

    #[cold]
    pub(crate) fn damaged(what: &'static str, value: u64, limit: u64) -> Self {
        Self(Kind::Damaged { what, value, limit })
    }

    #[cold]
    pub(crate) fn not_a_table(what: &'static str) -> Self {
        Self(Kind::NotATable(what))
    }
}
