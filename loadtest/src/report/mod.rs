//! What becomes of results: files, a summary on the terminal, comparisons, and a page with charts.
//!
//! - `file`: results as JSON files, and the schema of those.
//! - `figures`: the key figures of a run, by which runs are compared.
//! - `unit`: figures as people read them; `table`: aligned columns of them.
//! - [`text`]: a run's summary and a comparison, as plain text.
//! - `html`: the same with charts, as one self-contained page; its sources are in `loadtest/report`.

mod figures;
mod file;
mod html;
mod table;
pub mod text;
mod unit;

pub use self::file::{ReadError, WriteError, load, save, schema};
pub use self::html::html;
