//! What is said before a transaction: which tree, what it holds, and what a push would change.

use super::super::offer::Offer;
use super::{IDLE, Opened, PREPARE, Session, SessionError, malformed, unexpected};
use std::sync::Arc;
use sync_proto::digest::Digest;
use sync_proto::manifest::{Directory, meta_bytes};
use sync_proto::wire::table::{encode_listings, parts};
use sync_proto::wire::{
    Decision, Doubt, Item, Layout, Notice, Open, Plan, Reply, Request, Survey, TreeKey, WireError,
};

/// LIMIT: what the items of one plan may take in memory.
const MAX_ITEMS_BYTES: usize = 512 << 20;

impl Session {
    /// Proposes a root for a tree.
    pub async fn bind(
        &self,
        tree: TreeKey,
        root: &[u8],
        layout: Layout,
        adopt: bool,
    ) -> Result<(u64, Vec<Notice>), SessionError> {
        self.propose(tree, root, layout, adopt).await?;
        self.bound().await
    }

    /// Proposes a root for a tree and has it opened in the same breath.
    pub async fn bind_and_open(
        &self,
        root: &[u8],
        layout: Layout,
        open: Open,
    ) -> Result<(Vec<Notice>, Opened), SessionError> {
        self.propose(open.tree, root, layout, false).await?;
        self.send(&Request::Open(open)).await?;
        let (_, notices) = self.bound().await?;
        Ok((notices, self.opened().await?))
    }

    async fn propose(
        &self,
        tree: TreeKey,
        root: &[u8],
        layout: Layout,
        adopt: bool,
    ) -> Result<(), SessionError> {
        self.send(&Request::Bind {
            tree,
            root: root.into(),
            layout,
            adopt,
        })
        .await
    }

    async fn bound(&self) -> Result<(u64, Vec<Notice>), SessionError> {
        match self.receive("binding the tree", IDLE).await? {
            Reply::Bound {
                found_entries,
                notices,
                ..
            } => Ok((found_entries, notices)),
            other => Err(unexpected(&other, "Bound")),
        }
    }

    /// Answers a doubt.
    pub async fn settle(
        &self,
        doubt: &Doubt,
        decision: Decision,
    ) -> Result<Vec<Notice>, SessionError> {
        let request = Request::Settle {
            tree: doubt.tree,
            txn: doubt.txn,
            decision,
        };
        match self
            .ask(&request, "settling a transaction", PREPARE)
            .await?
        {
            Reply::Ok { notices } | Reply::Done { notices, .. } => Ok(notices),
            other => Err(unexpected(&other, "Ok")),
        }
    }

    /// Asks what is there.
    pub async fn survey(&self, tree: TreeKey) -> Result<Survey, SessionError> {
        match self
            .ask(&Request::Survey { tree }, "asking what is there", IDLE)
            .await?
        {
            Reply::Survey(survey) => Ok(survey),
            other => Err(unexpected(&other, "Survey")),
        }
    }

    /// Begins work on a tree; the member looks at it.
    pub async fn open(&self, open: Open) -> Result<Opened, SessionError> {
        self.send(&Request::Open(open)).await?;
        self.opened().await
    }

    /// What the member says to [`Request::Open`] that was sent before.
    pub async fn opened(&self) -> Result<Opened, SessionError> {
        match self.receive("looking at its tree", PREPARE).await? {
            Reply::Opened {
                generation,
                observed,
                entries,
                drift,
                notices,
            } => Ok(Opened {
                generation,
                observed,
                entries,
                drift,
                notices,
            }),
            other => Err(unexpected(&other, "Opened")),
        }
    }

    /// Tells the member what it should have and learns what that would change. One that has
    /// `nothing` wants every directory, so that those follow the table at once.
    pub async fn compare(&self, offer: &Offer, nothing: bool) -> Result<Plan, SessionError> {
        let root_meta = meta_bytes(offer.manifest.root_meta());
        self.send(&Request::Compare {
            roots: offer.roots,
            root_meta,
        })
        .await?;
        for (part, last) in parts(offer.table()) {
            self.send(&Request::Table {
                part: part.into(),
                last,
            })
            .await?;
        }
        let directories = offer.manifest.directories();
        let is_all_sent = nothing
            && directories
                .first()
                .is_some_and(|root| !root.entries.is_empty());
        if is_all_sent {
            self.list(directories.iter()).await?;
        }
        let (mut wanted, mut next) = (Vec::new(), 0);
        loop {
            match self.receive("comparing", PREPARE).await? {
                Reply::Wanted { ranges, last } => {
                    if ranges.is_empty() && !last {
                        return Err(malformed("a part of a list without anything in it"));
                    }
                    for (start, length) in ranges {
                        // LIMIT: a range is not empty, begins after the one before, and ends at our
                        // own table.
                        let (start, length) = (start as usize, length as usize);
                        let some = directories.get(start..start.saturating_add(length));
                        let some = some.filter(|some| start >= next && !some.is_empty());
                        let Some(some) = some else {
                            return Err(malformed(
                                "directories that there aren't, or wanted twice",
                            ));
                        };
                        next = start + length;
                        wanted.extend(some);
                    }
                    if last {
                        break;
                    }
                }
                other => return Err(unexpected(&other, "Wanted")),
            }
        }
        if !is_all_sent {
            self.list(wanted).await?;
        } else if wanted.len() != directories.len() {
            return Err(malformed("a directory isn't wanted where nothing is"));
        }
        match self.receive("planning", PREPARE).await? {
            Reply::Planned(plan) => Ok(plan),
            other => Err(unexpected(&other, "Planned")),
        }
    }

    async fn list<'a>(
        &self,
        directories: impl IntoIterator<Item = &'a Arc<Directory>>,
    ) -> Result<(), SessionError> {
        for (part, last) in parts(&encode_listings(directories)) {
            self.send(&Request::Listings {
                part: part.into(),
                last,
            })
            .await?;
        }
        Ok(())
    }

    /// Asks for a range of a content that the opened tree holds; [`Self::borrowed`] brings it.
    pub async fn borrow(
        &self,
        content: Digest,
        offset: u64,
        length: u32,
    ) -> Result<(), SessionError> {
        let request = Request::Lend {
            content,
            offset,
            length,
        };
        self.send(&request).await
    }

    /// The next part of the range, of which `left` bytes are due.
    pub async fn borrowed(&self, left: u64) -> Result<Vec<u8>, SessionError> {
        match self.receive("supplying a file", IDLE).await? {
            Reply::Lent { part, last } => {
                let bytes = part.len() as u64;
                // LIMIT: as many bytes as were asked for, and some in each part.
                if bytes == 0 || bytes > left || last != (bytes == left) {
                    let message = "a range with another length than was asked for";
                    return Err(WireError::Malformed(message.into()).into());
                }
                Ok(part)
            }
            other => Err(unexpected(&other, "Lent")),
        }
    }

    /// The plan's entries one by one.
    pub async fn items(&self) -> Result<Vec<Item>, SessionError> {
        self.send(&Request::Itemise).await?;
        let mut all = Vec::new();
        let mut left_bytes = MAX_ITEMS_BYTES;
        loop {
            match self.receive("listing changes", IDLE).await? {
                Reply::Items { items, last } => {
                    if items.is_empty() && !last {
                        return Err(malformed("a part of a list without anything in it"));
                    }
                    let bytes = |item: &Item| item.path.len() + item.attributes.len() + 64;
                    let some: usize = items.iter().map(bytes).sum();
                    left_bytes = left_bytes
                        .checked_sub(some)
                        .ok_or_else(|| malformed("more items than a plan may have"))?;
                    all.extend(items);
                    if last {
                        return Ok(all);
                    }
                }
                other => return Err(unexpected(&other, "Items")),
            }
        }
    }
}
