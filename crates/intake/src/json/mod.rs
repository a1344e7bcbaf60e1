//! Events as JSON: [`text`] steps through one value, [`shape`] knows what its names mean, [`stream`]
//! finds the next event in a file and goes on after a torn one.

pub(crate) mod shape;
pub(crate) mod stream;
pub(crate) mod text;
