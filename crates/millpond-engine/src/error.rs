//! The crate's one error.

/// What can go wrong in the engine.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] Kind);

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error(transparent)]
    System(#[from] millpond_sys::Error),
    #[error(transparent)]
    Table(#[from] millpond_table::Error),
    #[error("the system denies a thread: {0}")]
    Thread(String),
    #[error("no room for {len} bytes in the pool's shared memory of {limit} bytes")]
    NoRoom { len: u64, limit: u64 },
    #[error("all {0} seats of the pool are taken")]
    NoSeat(u32),
    #[error("the pool's shared memory is damaged")]
    Damaged,
    #[error("a payload of {len} bytes at {offset} lies outside its memory of {limit} bytes")]
    BadPayload { offset: u64, len: u64, limit: u64 },
}

impl Error {
    /// Whether memory, or a limit set on it, did not suffice.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        match &self.0 {
            Kind::NoRoom { .. } => true,
            Kind::System(error) => error.is_out_of_memory(),
            _ => false,
        }
    }

    /// Whether a peer wrote into the shared memory what no peer of ours writes.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        matches!(&self.0, Kind::BadPayload { .. } | Kind::Damaged | Kind::Table(_))
    }

    #[cold]
    pub(crate) fn thread(error: &std::io::Error) -> Self {
        Self(Kind::Thread(error.to_string()))
    }

    #[cold]
    pub(crate) fn no_room(len: u64, limit: u64) -> Self {
        Self(Kind::NoRoom { len, limit })
    }

    #[cold]
    pub(crate) fn no_seat(count: u32) -> Self {
        Self(Kind::NoSeat(count))
    }

    #[cold]
    pub(crate) fn damaged() -> Self {
        Self(Kind::Damaged)
    }

    #[cold]
    pub(crate) fn bad_payload(offset: u64, len: u64, limit: u64) -> Self {
        Self(Kind::BadPayload { offset, len, limit })
    }
}

impl From<millpond_sys::Error> for Error {
    fn from(error: millpond_sys::Error) -> Self {
        Self(Kind::System(error))
    }
}

impl From<millpond_table::Error> for Error {
    fn from(error: millpond_table::Error) -> Self {
        Self(Kind::Table(error))
    }
}
