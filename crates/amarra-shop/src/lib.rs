//! The six services of the shop and its gateway, over ports only.
