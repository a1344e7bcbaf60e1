//! Events as JSON: [`text`] steps through one value, [`shape`] makes an event of it, [`keys`]
//! knows what was learnt of its names, [`stream`] finds the next event in a file and goes on after a torn one.
//! What names mean is in [`meaning`](crate::meaning).

pub(crate) mod keys;
pub(crate) mod shape;
pub(crate) mod stream;
pub(crate) mod text;
