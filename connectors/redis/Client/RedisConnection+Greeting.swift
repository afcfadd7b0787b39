import NIOCore

extension RedisConnection {
    /// What is sent before the first command of anybody else.
    private enum Step {
        case authenticate
        case hello
        case name
        case select
        case ping
    }

    /// Logs in and agrees on the protocol, in one round trip: a server answers what it must, and
    /// refuses the rest one by one. On the event loop.
    static func greet(
        _ channel: any Channel, _ handler: RedisChannelHandler?, _ options: RedisOptions
    ) -> EventLoopFuture<RedisConnection> {
        guard let handler else {
            let failure = RedisFailure(.connection, "the connection is closed")
            return channel.eventLoop.makeFailedFuture(failure)
        }
        var commands = ByteBuffer()
        let steps = write(greeting: options, to: &commands)
        let promise = channel.eventLoop.makePromise(of: [RESPValue].self)
        handler.submit(commands, replies: steps.count, to: promise, of: nil)
        return promise.futureResult.assumeIsolated().flatMapThrowing { replies in
            let version = try agreedVersion(steps, replies)
            return RedisConnection(channel, handler, protocolVersion: version)
        }.nonisolated()
    }

    private static func write(greeting options: RedisOptions, to buffer: inout ByteBuffer) -> [Step]
    {
        var steps: [Step] = []
        if let (username, password) = options.credentials {
            // The short form is all that servers before 6.0 know.
            let name = username.flatMap { $0 == "default" ? nil : $0 }
            buffer.writeCommand(["AUTH"] + (name.map { [$0] } ?? []) + [password])
            steps.append(.authenticate)
        }
        if options.url.protocolVersion == 3 {
            buffer.writeCommand(["HELLO", "3"])
            steps.append(.hello)
        }
        if let name = options.clientName {
            buffer.writeCommand(["CLIENT", "SETNAME", name])
            steps.append(.name)
        }
        if options.url.database != 0 {
            buffer.writeCommand(["SELECT", "\(options.url.database)"])
            steps.append(.select)
        }
        // Tells whether a password is wanted where none is sent.
        buffer.writeCommand(["PING"])
        return steps + [.ping]
    }

    private static func agreedVersion(
        _ steps: [Step], _ replies: [RESPValue]
    ) throws(RedisFailure) -> Int {
        var version = 2
        for (step, reply) in zip(steps, replies) {
            guard let error = reply.error else {
                if step == .hello { version = 3 }
                continue
            }
            let failure = RedisFailure(error)
            switch step {
            case .authenticate
            where ["ERR", "NOPERM"].contains(error.code) && failure.kind != .connection:
                throw RedisFailure(.authentication, failure.message)
            case .authenticate, .select: throw failure
            // Before 6.0 there is neither HELLO nor RESP3; a name is a courtesy; and PING is asked
            // only for the password.
            case .hello, .name, .ping:
                if [.authentication, .connection].contains(failure.kind) { throw failure }
            }
        }
        return version
    }
}
