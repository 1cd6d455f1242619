//! Connections: accepted up to a limit, with deadlines, and drained when it is time to stop.

use super::read::Peer;
use super::stall::Unstalled;
use super::{Config, Server, router};
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// How long to wait before accepting again when the system has run out of something (file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long cut connections get to let go.
const CUT_DEADLINE: Duration = Duration::from_secs(2);

/// hyper's own least buffer for a request's head.
const LEAST_HEADER_BYTES: usize = 8192;

/// Serves until `stop` resolves, and then until running requests have ended or the grace is over.
pub async fn serve(listener: TcpListener, server: Arc<Server>, stop: impl Future<Output = ()>) {
    let connections = GracefulShutdown::new();
    let config = server.config.clone();
    let (cut, cutting) = watch::channel(());
    tokio::select! {
        () = accept(&listener, &config, router(server), &connections, &cutting) => {}
        () = stop => {}
    }
    drop(listener);
    let running = connections.count();
    if running > 0 {
        tracing::info!(connections = running, "stopping: running requests get to finish");
    }
    if timeout(config.shutdown_grace, connections.shutdown()).await.is_err() {
        tracing::warn!("the grace is over: the requests that still run are cut");
        drop(cutting);
        let _ = cut.send(());
        // Resolves when the last connection has let go.
        let _ = timeout(CUT_DEADLINE, cut.closed()).await;
    }
}

async fn accept(
    listener: &TcpListener,
    config: &Config,
    router: Router,
    connections: &GracefulShutdown,
    cutting: &watch::Receiver<()>,
) {
    let slots = Arc::new(Semaphore::new(config.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let http = http(config);
    loop {
        // Whoever comes beyond the limit waits in the system's own bounded backlog.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let stream = TokioIo::new(Unstalled::new(prompt(stream), config.body_timeout));
                let service = Known(TowerToHyperService::new(router.clone()), Peer(Some(peer.ip())));
                let connection = connections.watch(http.serve_connection(stream, service));
                let mut cutting = cutting.clone();
                tokio::spawn(async move {
                    let ended = tokio::select! {
                        ended = connection => ended,
                        _ = cutting.changed() => Ok(()),
                    };
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Tells each request where it comes from.
struct Known(TowerToHyperService<Router>, Peer);

impl Service<Request<Incoming>> for Known {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.1);
        self.0.call(request)
    }
}

fn http(config: &Config) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(config.max_header_bytes.max(LEAST_HEADER_BYTES));
    http
}

/// Without it a small answer written in two pieces waits 40 ms for the client's acknowledgement.
fn prompt(stream: TcpStream) -> TcpStream {
    let _ = stream.set_nodelay(true);
    stream
}
