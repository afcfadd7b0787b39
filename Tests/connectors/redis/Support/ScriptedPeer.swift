import NIOCore
import NIOPosix

/// What no real server does: it answers the greeting with PONG, the rest with `answer`, and closes.
final class ScriptedPeer: Sendable {
    let port: Int
    private let channel: any Channel

    private init(_ channel: any Channel, port: Int) {
        self.channel = channel
        self.port = port
    }

    static func start(_ answer: String) async throws -> ScriptedPeer {
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { child in
                child.eventLoop.makeCompletedFuture {
                    try child.pipeline.syncOperations.addHandler(Answers(answer))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return ScriptedPeer(channel, port: channel.localAddress?.port ?? 0)
    }

    func stop() async { try? await channel.close() }

    private final class Answers: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let answer: String
        private var greeted = false

        init(_ answer: String) { self.answer = answer }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let text = greeted ? answer : "+PONG\r\n"
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)), promise: nil)
            if greeted { context.close(promise: nil) }
            greeted = true
        }
    }
}
