import Foundation
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization
import WeirCore

/// HTTP/1.1 on a unix socket that only this user may open: `GET /v1/status`, `GET /livez`.
///
/// Works with curl: `curl --unix-socket weir.sock http://weir/v1/status`.
final class ControlServer: Sendable {
    private let path: String
    private let report: @Sendable () async -> StatusReport
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let channel = Mutex<(any Channel)?>(nil)

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
        let report = report
        do {
            // The folder is 0700; the mask closes the moment between bind and chmod as well.
            let mask = umask(0o177)
            defer { umask(mask) }
            let bound = try await ServerBootstrap(group: group)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.configureHTTPServerPipeline(
                            withErrorHandling: true)
                        try channel.pipeline.syncOperations.addHandler(ControlHandler(report))
                    }
                }
                .bind(unixDomainSocketPath: path).get()
            channel.withLock { $0 = bound }
        } catch {
            throw WeirError(
                .stateFailed, .blocked, "could not open the control socket \"\(path)\": \(error)")
        }
        unsafe chmod(path, 0o600)
    }

    func stop() async {
        let bound = channel.withLock { $0 }
        try? await bound?.close().get()
        unsafe unlink(path)
        try? await group.shutdownGracefully()
    }
}

/// One request at a time; the body, if any, is passed over.
private final class ControlHandler: ChannelInboundHandler, Sendable {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let report: @Sendable () async -> StatusReport

    init(_ report: @escaping @Sendable () async -> StatusReport) { self.report = report }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .head(let head) = unwrapInboundIn(data) else { return }
        let channel = context.channel
        let report = report
        Task {
            let (status, body) = await Self.answer(head, report)
            var headers = HTTPHeaders()
            headers.add(name: "content-type", value: "application/json")
            headers.add(name: "content-length", value: "\(body.count)")
            let keepAlive = head.isKeepAlive
            if !keepAlive { headers.add(name: "connection", value: "close") }
            let response = HTTPResponseHead(
                version: head.version, status: status, headers: headers)
            let buffer = channel.allocator.buffer(bytes: body)
            channel.write(HTTPServerResponsePart.head(response), promise: nil)
            channel.write(HTTPServerResponsePart.body(.byteBuffer(buffer)), promise: nil)
            try? await channel.writeAndFlush(HTTPServerResponsePart.end(nil))
            if !keepAlive { try? await channel.close() }
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
