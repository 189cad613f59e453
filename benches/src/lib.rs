//! Measures Amarra against its peers, as ratios within one run.
