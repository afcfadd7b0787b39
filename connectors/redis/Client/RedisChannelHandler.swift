import NIOCore
import Synchronization

/// Sends commands and gives each its replies. Lives on the channel's event loop.
final class RedisChannelHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// Readable from any thread.
    final class Liveness: Sendable {
        private let flag = Atomic(true)

        var isOpen: Bool { flag.load(ordering: .acquiring) }

        fileprivate func end() { flag.store(false, ordering: .releasing) }
    }

    private struct Waiting {
        let count: Int
        let deadline: NIODeadline
        let promise: EventLoopPromise<[RESPValue]>
        /// Else the connection closed under one who holds nothing but the future.
        let connection: RedisConnection?
    }

    let liveness = Liveness()

    private let replyTimeout: TimeAmount
    private let onPush: (@Sendable ([RESPValue]) -> Void)?
    private var context: ChannelHandlerContext?
    private var decoder = RESPDecoder()
    private var waiting = CircularBuffer<Waiting>()
    /// The replies to the first of `waiting` that have come.
    private var replies: [RESPValue] = []
    private var repliesBytes = 0
    /// Of all replies that one waits for.
    private static let repliesBytesMax = 128 << 20
    private var timer: Scheduled<Void>?
    /// Why there is no connection any more.
    private var failure: RedisFailure?

    init(replyTimeout: TimeAmount, onPush: (@Sendable ([RESPValue]) -> Void)?) {
        self.replyTimeout = replyTimeout
        self.onPush = onPush
    }

    /// - Parameter connection: nil for the greeting, which the connect timeout limits.
    func submit(
        _ commands: ByteBuffer, replies count: Int, to promise: EventLoopPromise<[RESPValue]>,
        of connection: RedisConnection?
    ) {
        guard let context, failure == nil else {
            promise.fail(failure ?? RedisFailure(.connection, "not connected"))
            return
        }
        precondition(count > 0, "Every command has a reply.")
        let deadline = connection == nil ? .distantFuture : NIODeadline.now() + replyTimeout
        waiting.append(
            Waiting(count: count, deadline: deadline, promise: promise, connection: connection))
        if timer == nil, connection != nil { arm(deadline, context) }
        context.writeAndFlush(wrapOutboundOut(commands), promise: nil)
    }

    /// Ends the connection, once. Everybody who waits gets `failure`.
    func end(_ failure: RedisFailure) {
        guard self.failure == nil else { return }
        self.failure = failure
        liveness.end()
        timer?.cancel()
        timer = nil
        let waiting = waiting
        self.waiting = []
        replies = []
        context?.close(promise: nil)
        for waiter in waiting { waiter.promise.fail(failure) }
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) {
        end(RedisFailure(.connection, "the connection is closed"))
        self.context = nil
    }

    func channelInactive(context: ChannelHandlerContext) {
        end(RedisFailure(.connection, "the server closed the connection"))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        end(RedisFailure(network: error))
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard failure == nil else { return }
        decoder.feed(unwrapInboundIn(data))
        do throws(MalformedRESP) {
            // A callback of a promise may end the connection.
            while failure == nil, let value = try decoder.next() { deliver(value) }
        } catch {
            end(RedisFailure(.protocolError, "not a Redis reply: \(error.reason)"))
        }
    }

    private func deliver(_ value: RESPValue) {
        if case .push(let elements) = value {
            onPush?(elements)
            return
        }
        guard let first = waiting.first else {
            end(Self.failure(unasked: value))
            return
        }
        replies.append(value)
        repliesBytes += decoder.lastReplyBytes
        guard repliesBytes <= Self.repliesBytesMax else {
            end(RedisFailure(.protocolError, "not a Redis reply: the replies are too long"))
            return
        }
        guard replies.count == first.count else { return }
        repliesBytes = 0
        waiting.removeFirst()
        let complete = replies
        replies = []
        if let next = waiting.first { replies.reserveCapacity(next.count) }
        first.promise.succeed(complete)
    }

    /// A server may say why it closes, to nobody's question.
    private static func failure(unasked value: RESPValue) -> RedisFailure {
        guard let failure = value.error.map(RedisFailure.init) else {
            return RedisFailure(.protocolError, "the server sent a reply to no command")
        }
        return failure.kind == .authentication
            ? failure : RedisFailure(.connection, failure.message)
    }

    // One timer per connection and not one per command: it is armed for the oldest deadline and,
    // when it fires too early for those that wait by then, armed again.

    private func arm(_ deadline: NIODeadline, _ context: ChannelHandlerContext) {
        timer = context.eventLoop.assumeIsolated().scheduleTask(deadline: deadline) {
            self.checkDeadline()
        }
    }

    private func checkDeadline() {
        timer = nil
        guard let context, let first = waiting.first else { return }
        if first.deadline <= .now() {
            end(RedisFailure(.timeout, "the server did not answer in time"))
        } else {
            arm(first.deadline, context)
        }
    }
}
