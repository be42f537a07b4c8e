//! The `sluice` program from outside: its command line, a development mesh, its ports, and nodes as processes that
//! join, die and come back.

mod access;
mod admin;
mod certificates;
mod cli;
mod dev;
mod garbage;
mod leaving;
mod processes;
mod stall;
mod support;
mod users;
mod webhooks;
