//! What a scenario lets happen.

/// Workers at a time.
pub(crate) const SEAT_COUNT: usize = 3;
/// As many as workers: with the tasks that are ahead of them, some wait for a slot.
pub(crate) const SLOT_COUNT: usize = 3;
/// Unclaimed tasks at a time.
pub(crate) const AHEAD_MAX: usize = 2;
/// Steps, of which a mortal worker makes fewer: about as many as its part of the tasks takes, so that it
/// may die at any point, or live through it.
pub(crate) const LIFE_STEPS_MAX: u64 = 400;

#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) task_count: usize,
    /// So many of the first workers die at a random step.
    pub(crate) mortal_count: usize,
    /// Whether a worker that is gone is replaced.
    pub(crate) replaces: bool,
    /// Whether tasks that were lost go out again.
    pub(crate) retries: bool,
    /// Whether tasks name stored parts, and results lend.
    pub(crate) uses_parts: bool,
    /// So many workers may sleep though tasks wait, now and then; 0 for none.
    pub(crate) spare: u32,
}

impl Plan {
    pub(crate) const PLAIN: Self = Self {
        task_count: 12,
        mortal_count: 0,
        replaces: true,
        retries: false,
        uses_parts: false,
        spare: 0,
    };
}
