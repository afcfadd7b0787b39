import Glibc
import NIOCore
import NIOPosix
import NIOSSL

extension RedisFailure {
    /// What the network, TLS or NIO reported, in words for an operator.
    init(network error: any Error) {
        switch error {
        case let failure as RedisFailure: self = failure
        case let error as NIOConnectionError: self.init(attempts: error)
        case let error as IOError:
            self.init(.connection, unsafe String(cString: strerror(error.errnoCode)))
        case ChannelError.connectTimeout: self.init(.timeout, "no answer in time")
        case ChannelError.ioOnClosedChannel, ChannelError.alreadyClosed,
            NIOSSLError.uncleanShutdown:
            self.init(.connection, "the connection is closed")
        case NIOSSLError.handshakeFailed(.sslError([.eofDuringHandshake])):
            self.init(.connection, "the server closed the connection during the TLS handshake")
        case NIOSSLError.handshakeFailed(let error): self.init(tls: error)
        case let error as NIOSSLExtraError where error == .failedToValidateHostname:
            self.init(.tls, "the server's certificate is for another host")
        case let error as BoringSSLError: self.init(tls: error)
        case is NIOSSLError, is NIOSSLExtraError: self.init(.tls, "\(error)")
        default: self.init(.connection, "\(error)")
        }
    }

    /// All addresses of a host failed, or it has none.
    private init(attempts: NIOConnectionError) {
        let failures = attempts.connectionErrors.map { RedisFailure(network: $0.error) }
        guard let first = failures.first else {
            self.init(.connection, "could not find the address of \"\(attempts.host)\"")
            return
        }
        var messages: [String] = []
        for failure in failures where !messages.contains(failure.message) {
            messages.append(failure.message)
        }
        self.init(first.kind, messages.joined(separator: "; "))
    }

    /// BoringSSL tells only a word, and where in its source it stands:
    ///
    ///     error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED at ….cc:123
    private init(tls error: BoringSSLError) {
        let text = "\(error)"
        let word = text.firstMatch(of: #/OPENSSL_internal:([A-Z0-9_]+)/#).map { String($0.1) }
        let message =
            switch word {
            case "CERTIFICATE_VERIFY_FAILED":
                "the server's certificate has expired, or no trusted authority issued it"
            case "WRONG_VERSION_NUMBER": "the server does not speak TLS on this port"
            default: "TLS failed: \(word ?? text)"
            }
        self.init(.tls, message)
    }
}
