//! Linux: spawns, reaps, signals; owns every child. It decides nothing.
