//! The session while a content is lent: the range goes out in parts, each read when the one before
//! is on its way.

use super::super::lend::Loan;
use super::*;
use sync_proto::digest::Digest;

impl Session {
    pub(super) async fn lend(
        &mut self,
        content: Digest,
        offset: u64,
        length: u32,
    ) -> Result<Outcome, Problem> {
        let mut loan = self
            .with_tree(move |tree| Loan::open(&tree.seen, &content, offset, length))
            .await?;
        loop {
            let (lent, part, last) = blocking(move || {
                let (part, last) = loan.read(PART_BYTES)?;
                Ok((loan, part, last))
            })
            .await?;
            loan = lent;
            let reply = Reply::Lent { part, last };
            if last {
                return Ok(Some(reply));
            }
            self.send_quietly(&reply).await?;
        }
    }
}
