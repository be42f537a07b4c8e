//! What becomes of results: files, a summary on the terminal, comparisons, and a page with charts.

mod figures;
mod file;
mod html;
mod table;
pub mod text;
mod unit;

pub use self::file::{ReadError, WriteError, load, save, schema};
pub use self::html::html;
