//! Group commit: what arrives while one transaction commits makes up the next one.
//!
//! Transactions run in lanes, side by side: while one of them waits for the disk or for PostgreSQL,
//! the hub prepares the next. Jobs of one key are always in one lane, and so in order. What two
//! lanes both touch must be locked in an order that all transactions keep, as two nodes have to.
//!
//! No artificial delay: an idle lane commits a single job at once. The queues are bounded; a full
//! one is `overloaded`. One job that breaks a constraint does not fail the others: the batch is then
//! tried job by job.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use diesel::QueryResult;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::fanout::Fanout;
use crate::counters;
use crate::error::{Error, Result};
use crate::models::Conn;
use crate::models::calendar_commit::StoredEvent;
use crate::models::pool::{self, Pool};

/// Transactions that may be under way at once, each on a connection of the pool. More of them make
/// smaller batches, which wait for each other's rows.
const LANES: u64 = 2;
/// Jobs that may wait in a lane; more are refused as `overloaded`.
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

    /// Whose order matters: jobs of one key are committed one after the other, as they came.
    fn key(job: &Self::Job) -> Uuid;

    /// Commits `jobs` as one transaction: an outcome for each in order, and the events stored.
    fn commit(
        &self,
        conn: &mut Conn,
        jobs: &[Self::Job],
    ) -> impl Future<Output = QueryResult<(Vec<Self::Outcome>, Vec<StoredEvent>)>> + Send;
}

type Reply<O> = oneshot::Sender<Result<O>>;

type Queue<B> = mpsc::Sender<(<B as Batch>::Job, Reply<<B as Batch>::Outcome>)>;

/// Where jobs are handed in.
pub struct Committer<B: Batch> {
    lanes: Arc<[Queue<B>]>,
}

impl<B: Batch> Clone for Committer<B> {
    fn clone(&self) -> Self {
        Self { lanes: self.lanes.clone() }
    }
}

impl<B: Batch> Committer<B> {
    /// Starts the tasks that commit; they end when the last handle is dropped.
    pub fn start(batch: B, pool: Pool, fanout: Fanout) -> Self {
        let batch = Arc::new(batch);
        let lane = move |_| {
            let (queue, jobs) = mpsc::channel(QUEUE);
            tokio::spawn(run(batch.clone(), pool.clone(), fanout.clone(), jobs));
            queue
        };
        Self { lanes: (0..LANES).map(lane).collect() }
    }

    /// Commits `job` and answers after the commit. Refuses with `overloaded` when the queue of its
    /// lane is full; a fault leaves it unknown to the caller whether a lost connection had committed.
    pub async fn submit(&self, job: B::Job) -> Result<B::Outcome> {
        let (reply, answer) = oneshot::channel();
        let (high, low) = B::key(&job).as_u64_pair();
        let lane = usize::try_from((high ^ low) % LANES).unwrap_or_default();
        let queue = self.lanes.get(lane).ok_or_else(|| Error::Fault("no such lane".to_owned()))?;
        queue.try_send((job, reply)).map_err(|_| Error::overloaded())?;
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
