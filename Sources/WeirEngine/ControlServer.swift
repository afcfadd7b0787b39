import Foundation
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization
import WeirCore

/// HTTP/1.1 on a unix socket that only this user may open: `GET /v1/status`, `GET /livez`.
///
/// Works with curl: `curl --unix-socket weir.sock http://weir/v1/status`. A connection is for one
/// request: a client that asks on and never reads cannot fill our memory with answers.
final class ControlServer: Sendable {
    private let path: String
    private let report: @Sendable () async -> StatusReport
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let channel = Mutex<(any Channel)?>(nil)
    private let exchanges = Mutex(0)

    /// At one time; `weir status --watch` has one for a moment each second.
    private static let exchangesMax = 32
    /// From the connection to the end of the answer.
    private static let exchangeLimit = TimeAmount.seconds(10)

    init(path: String, report: @escaping @Sendable () async -> StatusReport) {
        self.path = path
        self.report = report
    }

    /// - Throws: when the path is taken by something that is no socket, or cannot be bound.
    func start() async throws(WeirError) {
        var facts = stat()
        if unsafe lstat(path, &facts) == 0 {
            guard facts.st_mode & S_IFMT == S_IFSOCK else {
                throw WeirError(
                    .stateFailed, .blocked, "\"\(path)\" is in the way of the control socket")
            }
            // We hold the directory's lock, so nobody listens there.
            unsafe unlink(path)
        }
        let bound: any Channel
        do {
            // The folder is 0700; the mask closes the moment between bind and chmod as well.
            let mask = umask(0o177)
            defer { umask(mask) }
            bound = try await ServerBootstrap(group: group)
                .childChannelInitializer { [self] in prepare($0) }
                .bind(unixDomainSocketPath: path).get()
        } catch {
            throw WeirError(
                .stateFailed, .blocked, "could not open the control socket \"\(path)\": \(error)")
        }
        channel.withLock { $0 = bound }
        unsafe chmod(path, 0o600)
    }

    private func prepare(_ channel: any Channel) -> EventLoopFuture<Void> {
        let isTaken = exchanges.withLock { count in
            if count >= Self.exchangesMax { return false }
            count += 1
            return true
        }
        guard isTaken else { return channel.close() }
        let timer = channel.eventLoop.scheduleTask(in: Self.exchangeLimit) {
            channel.close(promise: nil)
        }
        channel.closeFuture.whenComplete { [self] _ in
            timer.cancel()
            exchanges.withLock { $0 -= 1 }
        }
        return channel.eventLoop.makeCompletedFuture {
            let pipeline = channel.pipeline.syncOperations
            try pipeline.addHandler(RequestLimit())
            try pipeline.configureHTTPServerPipeline(withErrorHandling: true)
            try pipeline.addHandler(ControlHandler(report))
        }
    }

    func stop() async {
        let bound = channel.withLock { $0 }
        try? await bound?.close().get()
        unsafe unlink(path)
        try? await group.shutdownGracefully()
    }
}

/// Ends a connection that sends more than a request.
private final class RequestLimit: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private static let bytesMax = 64 << 10
    private var count = 0

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        count += unwrapInboundIn(data).readableBytes
        guard count <= Self.bytesMax else {
            context.close(promise: nil)
            return
        }
        context.fireChannelRead(data)
    }
}

/// Answers the first request; the body, if any, and what else comes are passed over.
private final class ControlHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let report: @Sendable () async -> StatusReport
    private var isAnswered = false

    init(_ report: @escaping @Sendable () async -> StatusReport) { self.report = report }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .head(let head) = unwrapInboundIn(data), !isAnswered else { return }
        isAnswered = true
        Self.reply(to: head, on: context.channel, report)
    }

    private static func reply(
        to head: HTTPRequestHead, on channel: any Channel,
        _ report: @escaping @Sendable () async -> StatusReport
    ) {
        Task {
            let (status, body) = await answer(head, report)
            var headers = HTTPHeaders()
            headers.add(name: "content-type", value: "application/json")
            headers.add(name: "content-length", value: "\(body.count)")
            headers.add(name: "connection", value: "close")
            let response = HTTPResponseHead(
                version: head.version, status: status, headers: headers)
            let buffer = channel.allocator.buffer(bytes: body)
            channel.write(HTTPServerResponsePart.head(response), promise: nil)
            channel.write(HTTPServerResponsePart.body(.byteBuffer(buffer)), promise: nil)
            try? await channel.writeAndFlush(HTTPServerResponsePart.end(nil))
            try? await channel.close()
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private static func answer(
        _ head: HTTPRequestHead, _ report: @Sendable () async -> StatusReport
    ) async -> (HTTPResponseStatus, Data) {
        guard head.method == .GET else {
            return (.methodNotAllowed, Data(#"{"error":"only GET is offered"}"#.utf8))
        }
        switch head.uri {
        case "/livez": return (.ok, Data(#"{"status":"alive"}"#.utf8))
        case "/v1/status":
            guard let body = try? await report().json() else {
                return (.internalServerError, Data(#"{"error":"no report"}"#.utf8))
            }
            return (.ok, body)
        default: return (.notFound, Data(#"{"error":"see /v1/status and /livez"}"#.utf8))
        }
    }
}
