//! Preparing a server for a role: packages, and the one line by which a server program includes
//! fanout's files. Nothing of the machine's own configuration is changed.

use serde::{Deserialize, Serialize};

/// A request about preparing this server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetupRequest {
    /// Which steps are left.
    Plan(SetupWish),
    /// Carry out those steps that are left.
    Apply(SetupWish),
}

/// What a server shall be able to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupWish {
    /// Its web server, if it is one.
    pub web: Option<SetupWeb>,
    /// Its balancer, if it is one.
    pub balancer: Option<SetupBalancer>,
    /// Versions of PHP, such as `8.2`; empty: the distribution's own.
    pub php: Vec<String>,
    /// Extensions of PHP, by the names that the distribution gives their packages: `mysql`, `xml`.
    pub extensions: Vec<String>,
}

/// A web server to prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetupWeb {
    /// nginx.
    Nginx,
    /// apache.
    Apache,
}

/// A balancer to prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetupBalancer {
    /// HAProxy.
    Haproxy,
    /// nginx.
    Nginx,
}

/// The answer to a [`SetupRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetupAnswer {
    /// To Plan: every step, with those that are done already.
    Plan(Vec<SetupStep>),
    /// To Apply: the steps that were carried out.
    Done(Vec<SetupStep>),
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupStep {
    /// What it does, as part of a sentence: `install nginx`.
    pub what: String,
    /// The same for a shell, to be done by hand.
    pub by_hand: String,
    /// It is done already.
    pub is_done: bool,
    /// It is left to a person: it ends or starts a program.
    pub by_person: bool,
}
