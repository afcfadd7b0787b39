import CLibMongoC
package import WeirCore

/// A MongoDB URL, taken apart by libmongoc itself.
package struct MongoURL: Sendable {
    /// The keys of a connection in the configuration.
    package static let fields: [ConfigField] = [
        ConfigField(
            "url", .secret,
            "Where the replica set or the mongos routers are and how to log in, as a MongoDB URL. "
                + "tls=true verifies certificate and host name; without it, only servers of "
                + "this host are taken, unless allow_plaintext says otherwise.",
            required: true, example: #"{ "env": "CMS_URL" }"#),
        ConfigField(
            "allow_plaintext", .boolean,
            "Whether the server may be on another host although the url asks for no TLS. Whoever is "
                + "on the way can then read and change every document, and forge answers, which "
                + "libmongoc is not made to withstand.",
            default: "false"),
    ]

    let text: String
    /// Host and port of each seed, or the name of an SRV record.
    package let hosts: [String]
    /// The user that logs in, and the database that knows it; for commands that are shown.
    package let user: String?
    package let userDatabase: String
    package let isTLS: Bool
    /// TLS whose certificate or host name is not checked.
    package let isTLSWeak: Bool
    /// Options that libmongoc does not know, and leaves out without a word.
    package let unknownOptions: [String]

    /// - Throws: libmongoc's own words; never the URL, which may hold a password.
    package init(_ text: String) throws(ConfigIssue) {
        _ = Self.library
        try Self.checkCredentials(text)
        var problem = bson_error_t()
        guard let uri = unsafe mongoc_uri_new_with_error(text, &problem) else {
            throw ConfigIssue(
                field: "url", "not a MongoDB connection URL: \(Self.redacted(problem.text))")
        }
        defer { unsafe mongoc_uri_destroy(uri) }
        self.text = text
        unknownOptions = Self.unknownOptions(text)
        var hosts: [String] = []
        if let record = unsafe mongoc_uri_get_srv_hostname(uri) {
            unsafe hosts.append(String(cString: record))
        }
        var next = unsafe mongoc_uri_get_hosts(uri)
        while let host = unsafe next {
            unsafe hosts.append(host.pointee.place)
            unsafe next = UnsafePointer(host.pointee.next)
        }
        self.hosts = hosts
        user = unsafe mongoc_uri_get_username(uri).map { unsafe String(cString: $0) }
        userDatabase =
            unsafe mongoc_uri_get_auth_source(uri).map { unsafe String(cString: $0) } ?? "admin"
        isTLS = unsafe mongoc_uri_get_tls(uri)
        isTLSWeak = ["tlsInsecure", "tlsAllowInvalidCertificates", "tlsAllowInvalidHostnames"]
            .contains { unsafe mongoc_uri_get_option_as_bool(uri, $0.lowercased(), false) }
    }

    /// The seeds for messages; never user or password.
    package var place: String { hosts.joined(separator: ",") }

    /// Every seed is a unix socket or a loopback address.
    package var isLocal: Bool {
        hosts.allSatisfy { place in
            if place.hasPrefix("/") || place.hasPrefix("[::1]:") { return true }
            let host = place.prefix { $0 != ":" }
            let parts = host.split(separator: ".", omittingEmptySubsequences: false)
            // A name may begin like an address.
            return host == "localhost"
                || parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
        }
    }

    /// Neither on this host nor over TLS.
    package var isPlainAbroad: Bool { !isLocal && !isTLS }

    package static let refusalOfPlaintext =
        "the url asks for no TLS, and its server is not on this host; add tls=true to it, or, where "
        + "the network between the two is trusted, \"allow_plaintext\": true beside it "
        + "(weir tail: --allow-plaintext)"

    /// libmongoc takes what stands behind a careless "/" of a password for the database, and what
    /// stands behind a careless "@" for the host.
    private static func checkCredentials(_ text: String) throws(ConfigIssue) {
        guard let scheme = text.firstRange(of: "://") else { return }
        let rest = text.utf8[scheme.upperBound...]
        let at = UInt8(ascii: "@")
        let authority = rest.prefix { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "?") }
        let path = rest.dropFirst(authority.count).prefix { $0 != UInt8(ascii: "?") }
        guard path.contains(at) || authority.count(where: { $0 == at }) > 1 else { return }
        throw ConfigIssue(
            field: "url",
            "not a MongoDB connection URL: it has \"@\" more than once before its options, or "
                + "behind its host; in a user name or a password, \"@\" and \"/\" are written "
                + "%40 and %2F")
    }

    /// What a connection of this name should be warned of, if anything.
    package func tlsWarning(connection name: String) -> String? {
        if isLocal || isTLS && !isTLSWeak { return nil }
        return isTLS
            ? "connection \"\(name)\" does not check the server's certificate; leave the "
                + "tlsAllowInvalid… and tlsInsecure options out of its url"
            : "connection \"\(name)\" uses no TLS: documents and password cross the network in the "
                + "clear, and libmongoc \(Self.libraryVersion) does not check all that it reads; add "
                + "tls=true to its url"
    }

    private static func unknownOptions(_ text: String) -> [String] {
        guard let start = text.lastIndex(of: "?") else { return [] }
        let options = text[start...].dropFirst().split { $0 == "&" || $0 == ";" }
        return options.compactMap { option in
            let name = String(option.prefix { $0 != "=" })
            if isOption(name.lowercased()) { return nil }
            // It may be the rest of a password in the wrong place.
            let isName = name.utf8.count <= 40 && name.allSatisfy { $0.isASCII && $0.isLetter }
            return isName && option.contains("=") ? "\"\(name)\"" : "one that is no name"
        }
    }

    private static func isOption(_ name: String) -> Bool {
        unsafe mongoc_uri_option_is_int32(name) || mongoc_uri_option_is_int64(name)
            || mongoc_uri_option_is_bool(name) || mongoc_uri_option_is_utf8(name)
            || otherOptions.contains(name)
    }

    /// Those that are none of the four types to libmongoc, as they are set elsewhere in it.
    private static let otherOptions: Set<String> = [
        "authmechanism", "authmechanismproperties", "authsource", "compressors",
        "gssapiservicename", "readconcernlevel", "readpreference", "readpreferencetags",
        "replicaset", "appname", "safe", "slaveok", "w", "wtimeoutms",
        "tlscertificatekeyfilepassword",
    ]

    /// What a connection of this name should be warned of, if the url has options without effect.
    package func optionsWarning(connection name: String) -> String? {
        if unknownOptions.isEmpty { return nil }
        return "connection \"\(name)\": the driver does not know these options of its url, which "
            + "have no effect: \(unknownOptions.joined(separator: ", "))"
    }

    /// The first line of libmongoc's reason, without what it quotes of the URL.
    private static func redacted(_ reason: String) -> String {
        let line = reason.split(separator: "\n").first.map(String.init) ?? reason
        guard let quote = line.firstIndex(where: { $0 == "\"" || $0 == "'" }) else { return line }
        var head = String(line[..<quote])
        while let last = head.last, last.isWhitespace || last == ":" { head.removeLast() }
        return head + " (the value is not shown)"
    }

    private static var libraryVersion: String {
        unsafe mongoc_get_version().map { unsafe String(cString: $0) } ?? ""
    }

    /// Starts libmongoc once, and keeps it from writing to our standard error: what it has to say
    /// comes back as errors.
    static let library: Void = {
        // Before anything else: it writes while it starts, too.
        unsafe mongoc_log_set_handler({ _, _, _, _ in }, nil)
        PageMemory.install()
        mongoc_init()
    }()
}

extension mongoc_host_list_t {
    /// `host:port`, or the path of a unix socket.
    fileprivate var place: String {
        var copy = unsafe host_and_port
        return unsafe withUnsafeBytes(of: &copy) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}

extension bson_error_t {
    /// The message, one line.
    var text: String {
        var copy = self.message
        let text = unsafe withUnsafeBytes(of: &copy) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        return text.split(whereSeparator: \.isNewline).joined(separator: "; ")
    }
}
