//! Cordon's own Sigma rule pack.
