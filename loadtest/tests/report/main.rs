//! Results on their way to people: files, text, the page with charts. The runs are made up, from a seed, by the means
//! that a real run has for its counts.

mod documented;
mod files;
mod fixture;
mod page;
mod text;
