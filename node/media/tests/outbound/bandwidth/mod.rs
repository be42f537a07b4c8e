//! Bandwidth towards receivers, simulated against the real core on virtual time: bottlenecks that change, lose and are
//! shared, clients that tell what arrives as browsers do, and what they get to see.

mod cases;
mod control;
mod publisher;
mod statistics;
mod tcp;
mod viewer;
mod world;
