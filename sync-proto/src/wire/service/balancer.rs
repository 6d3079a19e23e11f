//! The rotation: which members a balancer sends visitors to, asked and changed while it runs.
//!
//! A balancer's own configuration is part of its server's configuration set
//! ([`super::config`]). What is here changes nothing on a disk but the marks that survive a
//! restart.

use serde::{Deserialize, Serialize};

/// Where a member is in a balancer's rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rotation {
    /// It gets its share.
    Ready,
    /// What it works on is finished, nothing new comes.
    Drain,
    /// Nothing comes, and it isn't checked either.
    Maintenance,
}

/// A request to the agent on a balancer's server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BalancerRequest {
    /// What the balancer that runs here knows of each member.
    State,
    /// Puts a member somewhere, in every backend that it is in. It stays there across reloads.
    Rotate {
        /// The member, by its name in the inventory.
        member: String,
        /// Where to.
        to: Rotation,
    },
    /// Waits until the member has nothing to do: no session of a visitor, nothing queued; for nginx,
    /// until no worker with an older configuration is left.
    AwaitIdle {
        /// The member.
        member: String,
        /// For so long at most.
        within_ms: u32,
    },
    /// Waits until the member takes part and its checks pass.
    AwaitUp {
        /// The member.
        member: String,
        /// For so long at most.
        within_ms: u32,
    },
    /// Ends the sessions that a member still has.
    CutOff {
        /// The member.
        member: String,
    },
}

/// The answer to a [`BalancerRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BalancerAnswer {
    /// To State.
    State(BalancerState),
    /// To Rotate and CutOff: in so many backends.
    Done {
        /// How many.
        backends: u32,
    },
    /// To AwaitIdle and AwaitUp.
    Waited(Waited),
}

/// How long was waited, and what for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// What was waited for is so.
    pub is_reached: bool,
    /// A member that was taken out is in again: the balancer has forgotten it.
    pub is_lost: bool,
    /// Microseconds.
    pub elapsed_us: u64,
    /// Sessions that the member has now.
    pub sessions: u32,
    /// What the balancer says of it, such as `UP 1/2`.
    pub status: String,
}

/// What a balancer knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancerState {
    /// The program: `haproxy` or `nginx`.
    pub program: String,
    /// Its version.
    pub version: String,
    /// Each member in each backend.
    pub members: Vec<BackendMember>,
    /// Workers that still finish what they had under an older configuration.
    pub retiring_workers: u32,
}

/// One member in one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendMember {
    /// The backend.
    pub backend: String,
    /// The member.
    pub member: String,
    /// Where it was put.
    pub rotation: Rotation,
    /// Its checks pass.
    pub is_up: bool,
    /// What the balancer calls that, such as `UP` or `DOWN 1/2`.
    pub status: String,
    /// What the last check said.
    pub check: String,
    /// Sessions now.
    pub sessions: u32,
    /// Requests that wait for it.
    pub queued: u32,
    /// Sessions since the balancer began.
    pub total_sessions: u64,
    /// Answers with a status of 500 and above since then.
    pub failures: u64,
}

/// A request to the agent on a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberRequest {
    /// Whether its health endpoint tells balancers to leave it out.
    Marked,
    /// Has its health endpoint tell balancers to leave it out, or to come back.
    Mark {
        /// Leave it out.
        out: bool,
    },
    /// Asks its own web server.
    Probe(Probe),
    /// Has PHP forget what it compiled: its files were changed in place.
    Forget,
}

/// The answer to a [`MemberRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberAnswer {
    /// To Marked and Mark: whether it is left out.
    Marked(bool),
    /// To Probe.
    Probed(Box<Probed>),
    /// To Forget: so many pools had something to forget.
    Forgotten(u32),
}

/// A question to a web server, as a visitor would ask it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The port on the member.
    pub port: u16,
    /// Over TLS.
    pub tls: bool,
    /// The host name in the request and in the handshake.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Of the headers only.
    pub head: bool,
    /// As the balancer in front of it would ask: with `X-Forwarded-Proto: https`.
    pub forwarded_tls: bool,
    /// For so long at most.
    pub within_ms: u32,
}

/// What a web server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// The status; 0 if there was no answer.
    pub status: u16,
    /// Why there was none.
    pub error: String,
    /// Where it redirects to.
    pub location: String,
    /// `Content-Type`.
    pub content_type: String,
    /// BLAKE3 of the body, as far as it was read.
    pub digest: [u8; 32],
    /// Bytes of the body that were read.
    pub body_bytes: u64,
    /// There was more.
    pub is_cut: bool,
    /// The beginning of the body, for a person to read.
    pub excerpt: String,
    /// Microseconds until the first byte of the answer.
    pub first_us: u64,
    /// Microseconds until the end.
    pub elapsed_us: u64,
    /// The certificate that it showed.
    pub certificate: Option<Certificate>,
}

/// A certificate that was shown. It was accepted whatever it is; this says what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Who it is for.
    pub subject: String,
    /// Who made it.
    pub issuer: String,
    /// The names in it.
    pub names: Vec<String>,
    /// It is for the host that was asked for.
    pub matches: bool,
    /// Nobody but its owner vouches for it.
    pub is_self_signed: bool,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
    /// SHA-256 of it.
    pub sha256: [u8; 32],
}
