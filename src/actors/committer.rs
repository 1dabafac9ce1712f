//! Group commit: what arrives while one transaction commits makes up the next one.
//!
//! No artificial delay: an idle committer commits a single job at once. The queue is bounded; a
//! full one is `overloaded`. One job that breaks a constraint does not fail the others: the batch
//! is then tried job by job.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use diesel::QueryResult;
use tokio::sync::{mpsc, oneshot};

use super::error::{Error, Result};
use super::fanout::Fanout;
use crate::counters;
use crate::models::Conn;
use crate::models::calendar_commit::StoredEvent;
use crate::models::pool::{self, Pool};

/// Jobs that may wait; more are refused as `overloaded`.
const QUEUE: usize = 4_096;
/// Jobs in one transaction.
const MAX_BATCH: usize = 256;
/// Attempts at a batch that met a deadlock or lost its connection before it did anything.
const ATTEMPTS: usize = 3;

/// How a kind of job is committed.
pub trait Batch: Send + Sync + 'static {
    /// What is wanted.
    type Job: Send + Sync + 'static;
    /// What became of it.
    type Outcome: Send + 'static;

    /// Commits `jobs` as one transaction: an outcome for each in order, and the events stored.
    fn commit(
        &self,
        conn: &mut Conn,
        jobs: &[Self::Job],
    ) -> impl Future<Output = QueryResult<(Vec<Self::Outcome>, Vec<StoredEvent>)>> + Send;
}

type Reply<O> = oneshot::Sender<Result<O>>;

/// Where jobs are handed in.
pub struct Committer<B: Batch> {
    queue: mpsc::Sender<(B::Job, Reply<B::Outcome>)>,
}

impl<B: Batch> Clone for Committer<B> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<B: Batch> Committer<B> {
    /// Starts the task that commits; it ends when the last handle is dropped.
    pub fn start(batch: B, pool: Pool, fanout: Fanout) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(run(Arc::new(batch), pool, fanout, jobs));
        Self { queue }
    }

    /// Commits `job` and answers after the commit. Refuses with `overloaded` when the queue is
    /// full; a fault leaves it unknown to the caller whether a lost connection had committed.
    pub async fn submit(&self, job: B::Job) -> Result<B::Outcome> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send((job, reply)).map_err(|_| Error::overloaded())?;
        answer.await.map_err(|_| Error::Fault("committer stopped".to_owned()))?
    }
}

async fn run<B: Batch>(
    batch: Arc<B>,
    pool: Pool,
    fanout: Fanout,
    mut queue: mpsc::Receiver<(B::Job, Reply<B::Outcome>)>,
) {
    let mut waiting = Vec::with_capacity(MAX_BATCH);
    while queue.recv_many(&mut waiting, MAX_BATCH).await > 0 {
        let (jobs, replies): (Vec<B::Job>, Vec<Reply<B::Outcome>>) = waiting.drain(..).unzip();
        match attempt(&*batch, &pool, &jobs).await {
            Ok((outcomes, events)) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // A caller that hung up has its answer in the database all the same.
                    let _ = reply.send(Ok(outcome));
                }
                fanout.publish_stored(&events);
            }
            Err(failure) if failure.of_a_job && jobs.len() > 1 => {
                one_by_one(&*batch, &pool, &fanout, jobs, replies).await;
            }
            Err(failure) => {
                for reply in replies {
                    let _ = reply.send(Err(failure.error.clone()));
                }
            }
        }
    }
}

/// The batch failed as a whole: every job stands for itself, so that only the guilty one fails.
async fn one_by_one<B: Batch>(
    batch: &B,
    pool: &Pool,
    fanout: &Fanout,
    jobs: Vec<B::Job>,
    replies: Vec<Reply<B::Outcome>>,
) {
    for (job, reply) in jobs.into_iter().zip(replies) {
        let result = attempt(batch, pool, std::slice::from_ref(&job)).await;
        let answer = result.map_err(|failure| failure.error).and_then(|(mut outcomes, events)| {
            fanout.publish_stored(&events);
            outcomes.pop().ok_or_else(|| Error::Fault("no outcome".to_owned()))
        });
        let _ = reply.send(answer);
    }
}

/// Why a batch was not committed.
struct Failure {
    error: Error,
    /// PostgreSQL refused what some job wanted. Otherwise it is not there (waiting for it once per
    /// job would hold up everybody) or was lost on the way (what it did is unknown).
    of_a_job: bool,
}

async fn attempt<B: Batch>(
    batch: &B,
    pool: &Pool,
    jobs: &[B::Job],
) -> std::result::Result<(Vec<B::Outcome>, Vec<StoredEvent>), Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut conn =
            pool.get().await.map_err(|e| Failure { error: e.into(), of_a_job: false })?;
        let began = Instant::now();
        let done = batch.commit(&mut conn, jobs).await;
        counters::committed(jobs.len(), began.elapsed());
        match done {
            Ok(done) => return Ok(done),
            Err(e) if tries < ATTEMPTS && is_transient(&e) => {
                tracing::warn!(jobs = jobs.len(), tries, "batch is tried again: {e}");
            }
            Err(e) => {
                tracing::error!(jobs = jobs.len(), "batch failed: {e}");
                return Err(Failure { of_a_job: !pool::is_lost(&e), error: e.into() });
            }
        }
    }
}

/// Whether the transaction surely did nothing and may be tried again. Diesel does not pass on the
/// SQLSTATE of a deadlock (40P01), only PostgreSQL's message.
fn is_transient(error: &diesel::result::Error) -> bool {
    use diesel::result::{DatabaseErrorKind, Error};
    match error {
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => true,
        Error::DatabaseError(DatabaseErrorKind::Unknown, info) => {
            info.message().contains("deadlock detected")
        }
        _ => false,
    }
}
