//! The session while objects come: needs go out, progress is told, and what can't go on is refused.

use super::*;

impl Session {
    /// Waits for the hub, for the staging area, and for the next moment to tell progress.
    pub(super) async fn step_staging(&mut self) -> Result<(), SessionEnd> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        tokio::select! {
            bytes = self.connection.recv() => {
                let bytes = bytes?;
                self.take(&bytes).await
            }
            event = running.events.recv() => match event {
                Some(event) => self.on_stage(event).await,
                None => Ok(()),
            },
            () = tokio::time::sleep(PROGRESS) => self.tell_progress().await,
        }
    }

    pub(super) async fn tell_progress(&mut self) -> Result<(), SessionEnd> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let now = running.receiver.staging().progress();
        if std::mem::replace(&mut running.told, now) == now {
            return Ok(());
        }
        let (staged_entries, staged_bytes) = now;
        let progress = Reply::Progress {
            staged_entries,
            staged_bytes,
        };
        self.send(&progress).await
    }

    pub(super) async fn on_stage(&mut self, event: StageEvent) -> Result<(), SessionEnd> {
        match event {
            StageEvent::Need(needs) => self.send_needs(needs).await,
            StageEvent::Failed(problem) => {
                self.stop_staging().await;
                self.phase = Phase::Planned;
                self.refuse(&problem).await
            }
            StageEvent::Filled | StageEvent::Complete => {
                let Some(running) = &mut self.running else {
                    return Ok(());
                };
                running.is_filled |= matches!(event, StageEvent::Filled);
                if !running.is_filled || !running.receiver.staging().has_all() {
                    return Ok(());
                }
                self.stop_staging().await;
                let finished = self.with_tree(Tree::finish).await;
                match finished {
                    Ok(notices) => {
                        self.phase = Phase::Staged;
                        let notices = told(notices);
                        self.send(&Reply::Staged { notices }).await
                    }
                    Err(problem) => {
                        self.phase = Phase::Planned;
                        self.refuse(&problem).await
                    }
                }
            }
        }
    }

    /// Ends all work on the staging area, and waits until nobody touches it any more.
    pub(super) async fn stop_staging(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        if !running.is_filled || !running.receiver.staging().has_all() {
            running.receiver.staging().stop();
        }
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Its errors were told as events.
        let _told = running.filler.await;
        // The one permit that the waiting receiver of objects has is no work.
        let idle = u32::try_from(WORKERS - 1).unwrap_or(1);
        let _all_idle = self.workers.acquire_many(idle).await;
    }

    pub(super) async fn stage(
        &mut self,
        txn: TxnKey,
        generation: Generation,
        delete_foreign: bool,
    ) -> Result<Outcome, Problem> {
        let (say, events) = unbounded_channel();
        let begun: (Arc<Receiver>, Sources, Arc<LocalContents>) = self
            .with_tree(move |tree| tree.stage(txn, generation, delete_foreign, say))
            .await?;
        let (receiver, mut sources, library) = begun;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(receiver.clone());
        let needs = std::mem::take(&mut sources.needs);
        let staging = receiver.staging().clone();
        let filler = tokio::task::spawn_blocking(move || match sources.fill(&staging, &library) {
            Ok(()) => staging.tell(StageEvent::Filled),
            Err(problem) => staging.fail(problem),
        });
        self.running = Some(Running {
            receiver,
            events,
            filler,
            is_filled: false,
            told: (0, 0),
        });
        self.phase = Phase::Staging;
        if !needs.is_empty() {
            self.send_needs(needs).await.map_err(|end| lost(&end))?;
        }
        Ok(None)
    }

    pub(super) async fn send_needs(&mut self, needs: Needs) -> Result<(), SessionEnd> {
        for (needs, last) in parts_of(needs) {
            self.send(&Reply::Need { needs, last }).await?;
        }
        Ok(())
    }
}

/// Needs in parts that fit into a message: ten bytes for a range, about forty for the others.
pub(super) fn parts_of(needs: Needs) -> Vec<(Needs, bool)> {
    let mut parts = Vec::new();
    let whole = needs.whole.chunks(PART_BYTES / 10).map(|part| Needs {
        whole: part.to_vec(),
        ..Needs::default()
    });
    parts.extend(whole);
    let patched = needs.patched.chunks(PART_BYTES / 40).map(|part| Needs {
        patched: part.to_vec(),
        ..Needs::default()
    });
    parts.extend(patched);
    let resumed = needs.resumed.chunks(PART_BYTES / 50).map(|part| Needs {
        resumed: part.to_vec(),
        ..Needs::default()
    });
    parts.extend(resumed);
    let count = parts.len();
    let numbered = parts.into_iter().enumerate();
    numbered
        .map(|(nth, part)| (part, nth + 1 == count))
        .collect()
}
