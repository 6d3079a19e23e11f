//! The order of a session: which request is due when. Nothing else decides about that.
//!
//! Refused by name: a request in the wrong phase, a second Hello, anything but Join from a peer in
//! the role that may only join.

use sync_proto::wire::{Decision, Request, WireError};

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was said yet by a peer that may only join.
    Joining,
    /// Nothing was said yet by a hub.
    Greeting,
    /// No tree is open.
    Idle,
    /// A tree is open and was looked at.
    Opened,
    /// The table of the tree to compare with is coming.
    Table,
    /// Listings are coming.
    Listings,
    /// The plan was made.
    Planned,
    /// Objects are coming.
    Staging,
    /// Everything is in place.
    Staged,
    /// The member voted yes.
    Voted,
}

impl Phase {
    /// Is this request due?
    ///
    /// # Errors
    /// [`WireError::Unexpected`], with what was due.
    pub fn admit(self, request: &Request) -> Result<(), WireError> {
        use Request as R;
        let is_abort = matches!(
            request,
            R::Decide {
                decision: Decision::Abort,
                ..
            }
        );
        let due = match self {
            Self::Joining => matches!(request, R::Join { .. }),
            Self::Greeting => matches!(request, R::Hello { .. }),
            Self::Idle => {
                is_abort
                    || matches!(
                        request,
                        R::Bind { .. }
                            | R::Settle { .. }
                            | R::Survey { .. }
                            | R::Open(_)
                            | R::Keep { .. }
                            | R::Release { .. }
                            | R::Forget { .. }
                            | R::Delete { .. }
                            | R::Leave
                            | R::Ping
                            | R::Service(_)
                    )
            }
            Self::Opened => {
                is_abort
                    || matches!(
                        request,
                        R::Compare { .. } | R::Lend { .. } | R::Leave | R::Ping
                    )
            }
            Self::Table => matches!(request, R::Table { .. }),
            Self::Listings => matches!(request, R::Listings { .. }),
            Self::Planned => {
                is_abort
                    || matches!(
                        request,
                        R::Compare { .. } | R::Itemise | R::Stage { .. } | R::Leave | R::Ping
                    )
            }
            Self::Staging => is_abort || matches!(request, R::Leave | R::Ping),
            Self::Staged => is_abort || matches!(request, R::Prepare { .. } | R::Leave | R::Ping),
            Self::Voted => matches!(request, R::Decide { .. } | R::Ping),
        };
        if due {
            return Ok(());
        }
        Err(WireError::Unexpected {
            got: request.name(),
            expected: self.due(),
        })
    }

    /// What is due, for messages.
    fn due(self) -> &'static str {
        match self {
            Self::Joining => "Join",
            Self::Greeting => "Hello",
            Self::Idle => "Open or another request about a tree",
            Self::Opened => "Compare, Lend or Leave",
            Self::Table => "Table",
            Self::Listings => "Listings",
            Self::Planned => "Stage, Itemise or Leave",
            Self::Staging => "an object",
            Self::Staged => "Prepare or Leave",
            Self::Voted => "Decide",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(phase: Phase, request: &Request) -> bool {
        phase.admit(request).is_err()
    }

    #[test]
    fn a_peer_that_may_only_join_can_do_nothing_else() {
        let hello = Request::Hello {
            versions: (1, 1),
            software: String::new(),
            hub: String::new(),
        };
        assert!(refused(Phase::Joining, &hello));
        assert!(refused(Phase::Joining, &Request::Ping));
        let join = Request::Join {
            certificate: Vec::new(),
        };
        assert!(!refused(Phase::Joining, &join));
        assert!(refused(Phase::Idle, &join));
    }

    #[test]
    fn nothing_is_staged_before_a_plan_and_nothing_committed_before_a_vote() {
        let commit = Request::Decide {
            txn: [0; 16],
            decision: Decision::Commit,
        };
        let prepare = Request::Prepare { txn: [0; 16] };
        for phase in [
            Phase::Greeting,
            Phase::Idle,
            Phase::Opened,
            Phase::Planned,
            Phase::Staging,
        ] {
            assert!(refused(phase, &commit), "{phase:?}");
            assert!(refused(phase, &prepare), "{phase:?}");
        }
        assert!(refused(Phase::Staged, &commit));
        assert!(!refused(Phase::Staged, &prepare));
        assert!(!refused(Phase::Voted, &commit));
        assert!(
            refused(Phase::Voted, &Request::Leave),
            "a vote can't be left"
        );
    }

    #[test]
    fn nothing_is_lent_of_a_tree_that_was_not_opened_or_is_being_changed() {
        let lend = Request::Lend {
            content: sync_proto::digest::Digest::of(b"x"),
            offset: 0,
            length: 1,
        };
        assert!(!refused(Phase::Opened, &lend));
        for phase in [
            Phase::Joining,
            Phase::Greeting,
            Phase::Idle,
            Phase::Table,
            Phase::Listings,
            Phase::Planned,
            Phase::Staging,
            Phase::Staged,
            Phase::Voted,
        ] {
            assert!(refused(phase, &lend), "{phase:?}");
        }
    }

    #[test]
    fn an_abort_is_heard_whenever_a_tree_may_be_open() {
        let abort = Request::Decide {
            txn: [0; 16],
            decision: Decision::Abort,
        };
        for phase in [
            Phase::Idle,
            Phase::Opened,
            Phase::Planned,
            Phase::Staging,
            Phase::Staged,
            Phase::Voted,
        ] {
            assert!(!refused(phase, &abort), "{phase:?}");
        }
    }
}
