//! [`Flight`]: one call upstream, and all who follow it.

use super::super::keep::{Keeper, is_last};
use super::bell::Bell;
use super::log::{At, Log};
use super::{Seat, lock};
use crate::cache::NotKept;
use crate::chat::{Chunk, Form, Request};
use crate::pipeline::voice::Voice;
use crate::upstream::{Chunks, Error, Kind, Opened, Origin};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

/// A call upstream that is being made.
pub(in super::super) type Opening = BoxFuture<'static, Result<Opened, Error>>;

/// One call upstream. Whoever reads moves it on.
pub(in super::super) struct Flight {
    /// What was asked by the one who began it.
    request: Arc<Request>,
    bell: Arc<Bell>,
    state: Mutex<State>,
}

/// How an answer began.
pub(in super::super) struct Begun {
    pub(in super::super) by: Arc<str>,
    pub(in super::super) model: Arc<str>,
    pub(in super::super) origin: Origin,
    pub(in super::super) failed: Vec<Error>,
    pub(in super::super) dropped: Vec<String>,
    pub(in super::super) headers: Vec<(String, String)>,
}

struct State {
    call: Call,
    begun: Option<Result<Arc<Begun>, Error>>,
    log: Log,
    end: Option<End>,
    /// Remembers the answer, where it is to be, if it comes from there.
    keeper: Option<(Keeper, Voice)>,
    kept: Option<Result<(), NotKept>>,
    /// How many follow it, and how many ever did.
    aboard: usize,
    boarded: u64,
    /// Whether somebody has told the observer of this call.
    told: bool,
}

enum Call {
    Opening(Opening),
    Giving(Chunks),
    /// At its end, cancelled, or just being polled: a call that panics stays taken out.
    Over,
}

enum End {
    /// Its terminal event was given.
    Whole,
    /// It stopped without one.
    Short,
    Cut(Error),
}

impl Flight {
    pub(in super::super) fn new(
        request: &Arc<Request>,
        opening: Opening,
        keeper: Option<(Keeper, Voice)>,
    ) -> Self {
        let state = State {
            call: Call::Opening(opening),
            begun: None,
            log: Log::default(),
            end: None,
            keeper,
            kept: None,
            aboard: 0,
            boarded: 0,
            told: false,
        };
        Self { request: Arc::clone(request), bell: Arc::default(), state: Mutex::new(state) }
    }

    /// Whether nothing more will come.
    pub(super) fn is_over(&self) -> bool {
        lock(&self.state).is_over()
    }

    /// Takes one more along, under this number; `None` where it is too late for that.
    pub(super) fn board(&self) -> Option<u64> {
        let mut state = lock(&self.state);
        let joinable = match (&state.begun, &state.end) {
            (Some(Err(_)), _) | (_, Some(End::Short | End::Cut(_))) => false,
            (_, Some(End::Whole)) => true,
            (_, None) => state.aboard > 0,
        };
        (joinable && state.log.is_whole()).then(|| state.board())
    }

    /// Whether the one who asks is to tell of this call: of all who share it one does. Someone who leaves does
    /// not while others stay.
    pub(in super::super) fn account(&self, at_end: bool) -> Option<Account> {
        let mut state = lock(&self.state);
        if state.told || !(at_end || state.aboard == 0) {
            return None;
        }
        state.told = true;
        Some(Account { kept: state.kept })
    }

    fn leave(&self, who: u64) {
        self.bell.leave(who);
        let mut state = lock(&self.state);
        state.aboard = state.aboard.saturating_sub(1);
        if state.aboard == 0 && !state.is_over() {
            state.end = Some(End::Short);
            // Cancelled outside of the lock: nobody knows what hangs on it.
            let cancelled = std::mem::replace(&mut state.call, Call::Over);
            drop(state);
            drop(cancelled);
        }
    }

    /// Polls in the name of all who wait.
    fn poll<T>(
        &self,
        who: u64,
        context: &Context<'_>,
        state: &mut State,
        poll: impl FnOnce(&mut State, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.bell.wait(who, context.waker());
        let waker = Waker::from(Arc::clone(&self.bell));
        let moved = ready!(poll(state, &mut Context::from_waker(&waker)));
        self.bell.leave(who);
        self.bell.ring();
        Poll::Ready(moved)
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.end.is_some() || matches!(self.begun, Some(Err(_)))
    }

    fn board(&mut self) -> u64 {
        self.aboard += 1;
        self.boarded += 1;
        self.boarded
    }

    fn open(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let opened = match std::mem::replace(&mut self.call, Call::Over) {
            Call::Opening(mut opening) => match opening.poll_unpin(context) {
                Poll::Ready(opened) => opened,
                Poll::Pending => {
                    self.call = Call::Opening(opening);
                    return Poll::Pending;
                }
            },
            Call::Giving(_) | Call::Over => Err(broken()),
        };
        self.begun = Some(opened.map(|opened| {
            // A stand-in's answer is not what was asked for, so it is given and forgotten.
            self.keeper.take_if(|(_, wanted)| !wanted.gives(&opened));
            let Opened { by, model, origin, failed, dropped, headers, load: _, chunks } = opened;
            self.call = Call::Giving(chunks);
            Arc::new(Begun { by, model, origin, failed, dropped, headers })
        }));
        Poll::Ready(())
    }

    fn read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Call::Giving(mut chunks) = std::mem::replace(&mut self.call, Call::Over) else {
            self.end = Some(End::Cut(broken()));
            return Poll::Ready(());
        };
        match chunks.poll_next_unpin(context) {
            Poll::Pending => {
                self.call = Call::Giving(chunks);
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(chunk))) => {
                if self.take(chunk) {
                    self.call = Call::Giving(chunks);
                }
            }
            Poll::Ready(Some(Err(error))) => self.end = Some(End::Cut(error)),
            Poll::Ready(None) => self.end = Some(End::Short),
        }
        Poll::Ready(())
    }

    /// Whether more will come. The answer is remembered before anyone has its last byte, so that whoever asks
    /// again at once already finds it.
    fn take(&mut self, chunk: Chunk) -> bool {
        if let Some((keeper, _)) = &mut self.keeper {
            keeper.see(&chunk);
        }
        let is_last = is_last(&chunk);
        if is_last {
            let by = self.begun.as_ref().and_then(|begun| begun.as_ref().ok());
            let by = by.map_or_else(Arc::default, |begun| Arc::clone(&begun.by));
            self.kept = self.keeper.take().and_then(|(keeper, _)| keeper.keep(&by));
            self.end = Some(End::Whole);
        }
        self.log.push(chunk);
        !is_last
    }
}

/// What is told of a call.
pub(in super::super) struct Account {
    pub(in super::super) kept: Option<Result<(), NotKept>>,
}

fn broken() -> Error {
    Error::new(Kind::Cut, &Arc::from("weir"), "the call broke down")
}

fn too_slow() -> Error {
    Error::new(Kind::Cut, &Arc::from("weir"), "the answer was read too slowly")
}

/// One of those who follow a call. Dropping it leaves the call to the others, and cancels it where there are
/// none.
pub(in super::super) struct Follower {
    flight: Arc<Flight>,
    who: u64,
    /// The next chunk.
    place: usize,
    /// Whether someone else began it.
    joined: bool,
    /// Whether a frame may be passed on as it came: not where the answer is to be handed over otherwise.
    verbatim: bool,
    /// Whether a cut was told.
    over: bool,
    seat: Option<Seat>,
}

impl Follower {
    /// The only one there will be.
    pub(in super::super) fn alone(flight: Flight) -> Self {
        Self::first(Arc::new(flight), None)
    }

    pub(super) fn first(flight: Arc<Flight>, seat: Option<Seat>) -> Self {
        let who = lock(&flight.state).board();
        Self { flight, who, place: 0, joined: false, verbatim: true, over: false, seat }
    }

    pub(super) fn joined(flight: Arc<Flight>, who: u64, seat: Option<Seat>) -> Self {
        Self { flight, who, place: 0, joined: true, verbatim: true, over: false, seat }
    }

    /// Whether someone else began it.
    pub(in super::super) fn is_joined(&self) -> bool {
        self.joined
    }

    pub(in super::super) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Has the answer handed over as `request` wants it.
    pub(in super::super) fn deliver_to(&mut self, request: &Request) {
        let same = |name: &String| name == "include_usage";
        let (ours, theirs) = (&request.delivery.options, &self.flight.request.delivery.options);
        // Every encoder shows usage to those only who want it, in frames as they came too.
        let mut others = ours.iter().chain(theirs).filter(|(name, _)| !same(name));
        self.verbatim = others.all(|(name, _)| ours.get(name) == theirs.get(name));
    }

    /// Whether `error` may be due to what the one who began it sent, and `request` did not.
    pub(in super::super) fn is_anothers_fault(&self, error: &Error, request: &Request) -> bool {
        let (ours, theirs) = (&request.received, &self.flight.request.received);
        let of_request = matches!(error.kind, Kind::BadRequest | Kind::Unsupported | Kind::ContextOverflow);
        self.joined && of_request && ours != theirs
    }

    /// The headers that mean something to the sender of `request`: those of a provider's do in its own
    /// protocol only.
    pub(in super::super) fn headers_for(&self, request: &Request, begun: &Begun) -> Vec<(String, String)> {
        let at_home = request.received.protocol == self.flight.request.received.protocol;
        let told = begun.headers.iter().filter(|(name, _)| at_home || name.starts_with("x-weir-"));
        told.cloned().collect()
    }

    /// Waits for the first words.
    pub(in super::super) async fn begun(&self) -> Result<Arc<Begun>, Error> {
        poll_fn(|context| self.poll_begun(context)).await
    }

    fn poll_begun(&self, context: &Context<'_>) -> Poll<Result<Arc<Begun>, Error>> {
        let state = &mut *lock(&self.flight.state);
        if state.begun.is_none() {
            ready!(self.flight.poll(self.who, context, state, State::open));
        }
        Poll::Ready(state.begun.clone().unwrap_or_else(|| Err(broken())))
    }

    fn poll_chunk(&mut self, context: &Context<'_>) -> Poll<Option<Result<Chunk, Error>>> {
        let state = &mut *lock(&self.flight.state);
        loop {
            match state.log.at(self.place) {
                At::Here(chunk) => {
                    self.place += 1;
                    // Nobody can join someone who has no seat.
                    if self.seat.is_none() {
                        state.log.drop_before(self.place);
                    }
                    return Poll::Ready(Some(Ok(Arc::unwrap_or_clone(chunk))));
                }
                At::Gone => return Poll::Ready(Some(Err(too_slow()))),
                At::Ahead => match &state.end {
                    Some(End::Cut(error)) => return Poll::Ready(Some(Err(error.clone()))),
                    Some(End::Whole | End::Short) => return Poll::Ready(None),
                    None => ready!(self.flight.poll(self.who, context, state, State::read)),
                },
            }
        }
    }
}

impl Stream for Follower {
    type Item = Result<Chunk, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let mut next = ready!(self.poll_chunk(context));
        match &mut next {
            Some(Ok(chunk)) if !self.verbatim => {
                chunk.raw.take_if(|raw| raw.form == Form::Frame);
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => self.over = true,
        }
        Poll::Ready(next)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.flight.leave(self.who);
    }
}
