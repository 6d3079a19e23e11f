//! The session while trees are compared: the table, the listings, the plan and its items.

use super::*;

impl Session {
    pub(super) fn collect(&mut self, part: &[u8]) -> Result<(), Problem> {
        if let Some(tree) = &self.tree {
            self.list_room.push(tree.seen.claim.lists.part(part.len())?);
        }
        self.list
            .add(part)
            .map_err(|error| Problem::from_error(Code::ProtocolViolation, &error))
    }

    pub(super) async fn compare(&mut self) -> Result<Outcome, Problem> {
        let list = std::mem::take(&mut self.list);
        let Some((roots, root_meta)) = self.announced.take() else {
            return Err(Problem::new(
                Code::ProtocolViolation,
                "A table without a comparison",
            ));
        };
        let (wanted, room) = self
            .with_tree(move |tree| {
                let (rows, room) = tree.seen.claim.lists.read(|most| list.rows(most))?;
                Ok((tree.compare(roots, &root_meta, rows)?, room))
            })
            .await?;
        self.list_room.clear();
        self.tree_room.push(room);
        self.phase = Phase::Listings;
        // A range takes ten bytes at most.
        let mut parts: Vec<Vec<(u32, u32)>> =
            wanted.chunks(PART_BYTES / 10).map(<[_]>::to_vec).collect();
        let last = parts.pop().unwrap_or_default();
        for ranges in parts {
            self.send_quietly(&Reply::Wanted {
                ranges,
                last: false,
            })
            .await?;
        }
        Ok(Some(Reply::Wanted {
            ranges: last,
            last: true,
        }))
    }

    pub(super) async fn plan(&mut self) -> Result<Reply, Problem> {
        let list = std::mem::take(&mut self.list);
        let (plan, room) = self
            .with_tree(move |tree| {
                let (listings, room) = tree.seen.claim.lists.read(|most| list.listings(most))?;
                Ok((tree.plan(listings)?.plan.summary.clone(), room))
            })
            .await?;
        self.list_room.clear();
        self.tree_room.push(room);
        self.phase = Phase::Planned;
        Ok(Reply::Planned(shortened(plan)))
    }

    pub(super) async fn itemise(&mut self) -> Result<Outcome, Problem> {
        let target = self.tree.as_ref().and_then(Tree::target).cloned();
        let mut items: Vec<Item> = Vec::new();
        let mut bytes = 0;
        if let Some(target) = target {
            for item in target.plan.items() {
                bytes += item.path.len() + item.attributes.len() + 16;
                if bytes > PART_BYTES {
                    bytes = 0;
                    let part = std::mem::take(&mut items);
                    self.send_quietly(&Reply::Items {
                        items: part,
                        last: false,
                    })
                    .await?;
                }
                items.push(item);
            }
        }
        Ok(Some(Reply::Items { items, last: true }))
    }
}

fn shortened(mut plan: Plan) -> Plan {
    plan.vanished_top.truncate(MAX_TOLD);
    plan.kept.truncate(MAX_TOLD);
    plan.deleted_examples.truncate(MAX_TOLD);
    plan.conflicts = told(plan.conflicts);
    plan.notices = told(plan.notices);
    plan
}
