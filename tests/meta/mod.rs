//! Of the repository itself: which layer may name which, its words, its pages, and what packages bring along.

mod direction;
mod language;
mod manual;
mod migrate;
pub mod readme;
mod schedulers;
