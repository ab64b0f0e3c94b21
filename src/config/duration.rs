//! Durations as a config file writes them: the unit is in the value (`"500ms"`, `"1h30m"`).
