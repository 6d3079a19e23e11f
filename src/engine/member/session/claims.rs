//! How a session comes to hold a tree alone.

use super::*;

impl Session {
    /// Takes a tree; one that another session is just leaving is waited for.
    pub(super) async fn claim(&self, tree: TreeKey) -> Result<Claim, Problem> {
        self.claim_within(tree, CLAIM).await
    }

    /// Takes a tree for changing it, from a session of the same hub that was left behind too.
    pub(super) async fn claim_over(&self, tree: TreeKey) -> Result<Claim, Problem> {
        self.host.take_over(self.connection.peer(), tree);
        let claim = self.claim_within(tree, TAKE_OVER).await?;
        self.host.note_holder(tree, &self.connection);
        Ok(claim)
    }

    pub(super) async fn claim_within(
        &self,
        tree: TreeKey,
        limit: Duration,
    ) -> Result<Claim, Problem> {
        let end = Instant::now() + limit;
        loop {
            let (host, peer) = (self.host.clone(), self.connection.peer());
            match blocking(move || host.claim(peer, tree)).await {
                Err(problem) if problem.code == Code::TaskLocked && Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => return other,
            }
        }
    }
}
