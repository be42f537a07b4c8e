use crate::fixture::{TODAY, TOMORROW, run, stillborn};
use sluice_loadtest::report::text::{compare, summary};

#[test]
fn show() {
    println!("{}", summary(&run(1, TODAY)));
    println!("{}", summary(&stillborn()));
    println!("{}", compare(&[run(1, TODAY), run(2, TOMORROW)]));
    println!("{}", compare(&[run(1, TODAY), run(2, TOMORROW), stillborn(), run(3, TODAY)]));
}
