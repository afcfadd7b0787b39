package import NIOCore

/// One connection to one server, bound to an event loop. Closes at the latest when the last
/// reference is gone and nothing is in flight.
package final class RedisConnection: Sendable {
    package let eventLoop: any EventLoop
    /// The one agreed on: 2 where the server does not speak 3.
    package let protocolVersion: Int

    private let channel: any Channel
    private let handler: NIOLoopBound<RedisChannelHandler>
    private let liveness: RedisChannelHandler.Liveness

    /// On the event loop.
    init(_ channel: any Channel, _ handler: RedisChannelHandler, protocolVersion: Int) {
        eventLoop = channel.eventLoop
        self.protocolVersion = protocolVersion
        self.channel = channel
        self.handler = NIOLoopBound(handler, eventLoop: channel.eventLoop)
        liveness = handler.liveness
    }

    deinit {
        guard channel.isActive else { return }
        // Not at once: the last reference may go in the middle of the handler's work.
        eventLoop.execute { [channel] in channel.close(promise: nil) }
    }

    /// False as soon as the connection ended for whatever reason.
    package var isOpen: Bool { liveness.isOpen && channel.isActive }

    /// Sends commands at once and returns their replies in order, error replies among them.
    ///
    /// Any number may be in flight. The future fails with a `RedisFailure` when the connection ends
    /// before all its replies came; no reply may take longer than the reply timeout, else the
    /// connection ends. On the event loop this neither hops nor waits.
    ///
    /// - Parameter replies: how many commands those are; at least one.
    package func submit(_ commands: ByteBuffer, replies: Int) -> EventLoopFuture<[RESPValue]> {
        let promise = eventLoop.makePromise(of: [RESPValue].self)
        if eventLoop.inEventLoop {
            handler.value.submit(commands, replies: replies, to: promise, of: self)
        } else {
            eventLoop.execute { [self] in
                handler.value.submit(commands, replies: replies, to: promise, of: self)
            }
        }
        return promise.futureResult
    }

    /// Sends one command and waits for its reply. For the cold paths.
    ///
    /// - Throws: an error reply too, as `.reply`. When the task is cancelled this throws at once;
    ///   the command may have run.
    package func command(_ parts: [String]) async throws(RedisFailure) -> RESPValue {
        var bytes = ByteBuffer()
        bytes.writeCommand(parts)
        let reply = try await submit(bytes, replies: 1).value()[0]
        if let error = reply.error { throw RedisFailure(error) }
        return reply
    }

    package func command(_ parts: String...) async throws(RedisFailure) -> RESPValue {
        try await command(parts)
    }

    /// Closes without waiting for replies: those who wait get `.cancelled`. Returns when the socket
    /// is closed, with a silent TLS peer after a second. May be called more than once.
    package func close() async {
        let handler = handler
        eventLoop.execute {
            handler.value.end(RedisFailure(.cancelled, "the connection was closed"))
        }
        // It never fails, and NIO completes it even when the event loop is shut down.
        try? await channel.closeFuture.get()
    }
}

extension EventLoopFuture where Value: Sendable {
    /// Waits for the value; throws `.cancelled` at once when the task is cancelled.
    package func value() async throws(RedisFailure) -> Value {
        let promise = eventLoop.makePromise(of: Value.self)
        cascade(to: promise)
        let result: Result<Value, any Error> = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                promise.futureResult.whenComplete { continuation.resume(returning: $0) }
            }
        } onCancel: {
            // The first outcome of a promise counts; later ones are ignored.
            promise.fail(RedisFailure(.cancelled, "cancelled"))
        }
        switch result {
        case .success(let value): return value
        case .failure(let error): throw RedisFailure(network: error)
        }
    }
}
