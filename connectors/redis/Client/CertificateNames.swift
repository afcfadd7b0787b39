import NIOCore
import NIOSSL

/// What a certificate must be for, where NIOSSL alone takes too much.
enum CertificateNames {
    /// NIOSSL takes a certificate for a host name also when it is for the address of the peer. The
    /// name server says what the address is, and may be lied to; so a name must be met by a name.
    ///
    /// - Parameter name: nil when the URL has an address, which NIOSSL compares itself.
    static func check(
        _ certificate: NIOSSLCertificate, _ channel: any Channel, isFor name: String?
    ) -> EventLoopFuture<Void> {
        let names = certificate._subjectAlternativeNames()
        // Without an address in it, NIOSSL found a name.
        guard let name, names.contains(where: { $0.nameType == .ipAddress }),
            !names.contains(where: {
                $0.nameType == .dnsName
                    && matches(String(decoding: $0.contents, as: UTF8.self), name)
            })
        else { return channel.eventLoop.makeSucceededVoidFuture() }
        return channel.eventLoop.makeFailedFuture(
            RedisFailure(.tls, "the server's certificate is for another host"))
    }

    /// The whole name, or all but its first label where the certificate has a `*` for that
    /// (RFC 6125, 6.4.3).
    static func matches(_ pattern: String, _ name: String) -> Bool {
        func canonical(_ text: String) -> Substring {
            let lowered = text.lowercased()[...]
            return lowered.hasSuffix(".") ? lowered.dropLast() : lowered
        }
        let (pattern, name) = (canonical(pattern), canonical(name))
        if pattern == name { return !name.isEmpty }
        guard pattern.hasPrefix("*."), let dot = name.firstIndex(of: "."), dot != name.startIndex
        else { return false }
        let rest = pattern.dropFirst()
        return rest.count > 1 && !rest.contains("*") && rest == name[dot...]
    }
}
