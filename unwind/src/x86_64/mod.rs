//! What depends on the processor: which rules CFI comes down to, and how a frame's registers give
//! those of its caller.

pub(crate) mod expression;
pub(crate) mod frame;
pub(crate) mod rule;
pub(crate) mod unlisted;
