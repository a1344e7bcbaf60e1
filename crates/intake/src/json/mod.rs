//! Events as JSON: [`text`] steps through one value, [`shape`] makes an event of it, [`meaning`] knows
//! what its names mean, [`keys`] what was learnt of them, [`stream`] finds the next event in a file and goes on after a torn one.

pub(crate) mod keys;
mod meaning;
pub(crate) mod shape;
pub(crate) mod stream;
pub(crate) mod text;
