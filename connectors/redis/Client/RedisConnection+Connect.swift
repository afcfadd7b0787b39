import Glibc
package import NIOCore
import NIOPosix
import NIOSSL

extension RedisConnection {
    /// Connects, verifies the server where the URL asks for TLS, and logs in.
    ///
    /// Every address of the host is tried. Reads the CA certificates on the calling thread.
    ///
    /// - Parameter onPush: gets RESP3's pushes, on the event loop; without it they are dropped.
    /// - Throws: within the connect timeout, and at once when the task is cancelled.
    package static func connect(
        _ options: RedisOptions, on eventLoop: any EventLoop,
        onPush: (@Sendable ([RESPValue]) -> Void)? = nil
    ) async throws(RedisFailure) -> RedisConnection {
        let tls = options.url.isTLS ? try tlsContext(options) : nil
        let timeout = TimeAmount(options.connectTimeout)
        let promise = eventLoop.makePromise(of: RedisConnection.self)
        let place = options.url.place
        let timer = eventLoop.scheduleTask(in: timeout) {
            promise.fail(
                RedisFailure(.timeout, "could not connect to \(place): no answer in time"))
        }
        let handlers = Handlers.makeBoxSendingValue([:], eventLoop: eventLoop)
        let opened = open(options, tls, onPush, handlers, on: eventLoop)
        opened.flatMap { channel in
            // Each channel was given one.
            let handler = handlers.value.removeValue(forKey: ObjectIdentifier(channel))
            return greet(channel, handler, options)
        }.flatMapErrorThrowing { error in
            let failure = RedisFailure(network: error)
            switch failure.kind {
            case .authentication, .reply: throw failure
            default:
                throw RedisFailure(
                    failure.kind, "could not connect to \(place): \(failure.message)")
            }
        }.cascade(to: promise)
        // Too late, cancelled or refused: the socket must not stay, whenever it comes.
        promise.futureResult.whenFailure { _ in
            opened.whenSuccess { $0.close(promise: nil) }
        }
        promise.futureResult.whenComplete { _ in timer.cancel() }
        do {
            return try await promise.futureResult.value()
        } catch {
            // Where the task was cancelled, the promise does not know it yet.
            promise.fail(error)
            throw error
        }
    }

    private static func tlsContext(
        _ options: RedisOptions
    ) throws(RedisFailure) -> NIOSSLContext {
        // Chain and host name are verified by default.
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion = .tlsv12
        configuration.shutdownTimeout = .seconds(1)
        if let file = options.caFile { configuration.trustRoots = .file(file) }
        do {
            return try NIOSSLContext(configuration: configuration)
        } catch {
            let place = options.caFile.map { "\"\($0)\"" } ?? "the system's folder"
            throw RedisFailure(.tls, "could not read CA certificates from \(place)")
        }
    }

    /// The handlers of the channels that are tried. By the time the connected one is known it may
    /// be closed again and its pipeline empty; its handler still knows why.
    private typealias Handlers = NIOLoopBoundBox<[ObjectIdentifier: RedisChannelHandler]>

    /// The socket is connected; the TLS handshake is still to come.
    private static func open(
        _ options: RedisOptions, _ tls: NIOSSLContext?,
        _ onPush: (@Sendable ([RESPValue]) -> Void)?, _ handlers: Handlers,
        on eventLoop: any EventLoop
    ) -> EventLoopFuture<any Channel> {
        let replyTimeout = TimeAmount(options.replyTimeout)
        let serverName = serverName(of: options.url)
        let bootstrap = ClientBootstrap(group: eventLoop)
            .connectTimeout(TimeAmount(options.connectTimeout))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if let tls {
                        try pipeline.addHandler(
                            NIOSSLClientHandler._makeSSLClientHandler(
                                context: tls, serverHostname: serverName,
                                additionalPeerCertificateVerificationCallback: {
                                    CertificateNames.check($0, $1, isFor: serverName)
                                }))
                    }
                    let handler = RedisChannelHandler(replyTimeout: replyTimeout, onPush: onPush)
                    try pipeline.addHandler(handler)
                    handlers.value[ObjectIdentifier(channel)] = handler
                }
            }
        switch options.url.address {
        case .unixSocket(let path): return bootstrap.connect(unixDomainSocketPath: path)
        case .tcp(let host, let port):
            let bootstrap = tcpOptions.reduce(bootstrap) {
                $0.channelOption($1.option, value: $1.value)
            }
            // An address needs no look-up and so no other thread.
            if let address = try? SocketAddress(ipAddress: host, port: port) {
                return bootstrap.connect(to: address)
            }
            return bootstrap.connect(host: host, port: port)
        }
    }

    /// No delay for small commands; a silent peer is noticed within half a minute, idle or in the
    /// middle of a write.
    private static var tcpOptions: [(option: ChannelOptions.Types.SocketOption, value: Int)] {
        let tcp: [(name: CInt, value: Int)] = [
            (TCP_NODELAY, 1), (TCP_KEEPIDLE, 10), (TCP_KEEPINTVL, 5), (TCP_KEEPCNT, 3),
            (TCP_USER_TIMEOUT, 30_000),
        ]
        return [(.init(level: .socket, name: .so_keepalive), 1)]
            + tcp.map { (.init(level: .tcp, name: .init(rawValue: $0.name)), $0.value) }
    }

    /// What the certificate must be for. Nil with an IP address: it is compared with the peer's.
    private static func serverName(of url: RedisURL) -> String? {
        let isAddress = (try? SocketAddress(ipAddress: url.host, port: 0)) != nil
        if isAddress { return nil }
        // A name in DNS may end in a dot, a name in a certificate does not.
        return url.host.hasSuffix(".") ? String(url.host.dropLast()) : url.host
    }
}
