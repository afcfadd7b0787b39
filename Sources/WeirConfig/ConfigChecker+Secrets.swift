import WeirCore
import WeirJSON

extension ConfigChecker {
    private static let secretKeys = ["env", "file", "credential"]

    /// Text, or an object that says where the text is. Its text never gets into a message.
    mutating func secret(_ node: JSONNode, _ label: String, _ key: String) -> Secret? {
        let expected = #"text, or an object such as { "env": "NAME" }"#
        guard case .object = node.value else {
            mask(node)
            return literalSecret(node, label, key, expected)
        }
        guard let scope = object(node, label: label, anchor: node.span, path: "") else {
            return nil
        }
        var isKnown = true
        for member in scope.members where !Self.secretKeys.contains(member.key) {
            mask(member.value)
            log.error(
                ConfigErrorCode.unknownField,
                "unknown field \(quoted(member.key)) in the secret \(label)", at: member.keySpan,
                note: didYouMean(member.key, among: Self.secretKeys)
                    ?? #"one of "env", "file", "credential""#)
            isKnown = false
        }
        guard isKnown else { return nil }
        guard scope.members.count == 1, let member = scope.members.first else {
            log.error(
                ConfigErrorCode.invalidValue,
                #"\#(label) must have exactly one of "env", "file" and "credential""#,
                at: node.span)
            return nil
        }
        guard let name = text(member.value, "\"\(member.key)\"", expected: "text") else {
            return nil
        }
        switch member.key {
        case "env": return variable(name, member.value)
        case "file": return file(name, origin: "file \(name)", member.value)
        default: return credential(name, member.value)
        }
    }

    private mutating func literalSecret(
        _ node: JSONNode, _ label: String, _ key: String, _ expected: String
    ) -> Secret? {
        guard let text = text(node, label, expected: expected) else { return nil }
        if text.isEmpty {
            log.error(ConfigErrorCode.empty, "\(label) is empty", at: node.span)
            return nil
        }
        if SecretMask.holdsPassword(text, key: key) {
            literalPasswords.append(node.span)
            log.warning(
                ConfigErrorCode.literalPassword, "\(label) holds a password", at: node.span,
                note: #"better { "env": "NAME" } or { "file": "/path" }"#)
        }
        return Secret(text, origin: "the configuration file")
    }

    private mutating func variable(_ name: String, _ node: JSONNode) -> Secret? {
        let isName = name.utf8.allSatisfy {
            ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7A) || ($0 >= 0x30 && $0 <= 0x39) || $0 == 0x5F
        }
        guard isName, !name.isEmpty, name.utf8.first.map({ $0 > 0x39 }) == true else {
            // Somebody may have put the secret itself here.
            mask(node)
            log.error(
                ConfigErrorCode.invalidValue, "not a name of an environment variable",
                at: node.span, note: "letters, digits and _ only")
            return nil
        }
        guard let text = environment.variable(name) else {
            unavailable("environment variable \(quoted(name)) is not set", node)
            return nil
        }
        return usable(text, "environment variable \(quoted(name))", "env \(name)", node)
    }

    private mutating func credential(_ id: String, _ node: JSONNode) -> Secret? {
        guard !id.isEmpty, !id.contains("/"), id != ".", id != ".." else {
            mask(node)
            log.error(
                ConfigErrorCode.invalidValue, "not a name of a credential", at: node.span,
                note: "the id of a LoadCredential=")
            return nil
        }
        guard let directory = environment.variable("CREDENTIALS_DIRECTORY"), !directory.isEmpty
        else {
            unavailable(
                "there is no credential \(quoted(id)): CREDENTIALS_DIRECTORY is not set", node,
                note: "systemd sets it with LoadCredential=")
            return nil
        }
        return file("\(directory)/\(id)", origin: "credential \(id)", node)
    }

    private mutating func file(_ path: String, origin: String, _ node: JSONNode) -> Secret? {
        switch environment.readFile(path) {
        case .failure(let fault):
            unavailable("could not read \(quoted(path)): \(fault.reason)", node)
            return nil
        case .success(let bytes):
            warnOfReaders(path, node)
            // Editors and `echo` end a file with a line break that is no part of the secret.
            var kept = bytes[...]
            if kept.last == UInt8(ascii: "\n") { kept.removeLast() }
            if kept.count < bytes.count, kept.last == UInt8(ascii: "\r") { kept.removeLast() }
            guard let text = String(validating: kept, as: UTF8.self) else {
                unavailable("the file \(quoted(path)) is not UTF-8", node)
                return nil
            }
            return usable(text, "the file \(quoted(path))", origin, node)
        }
    }

    /// A group may be how the secret gets to Weir's user, as in a container; everybody is not.
    /// Nothing is said of a volume that can only be read: who mounted it chose the rights, no
    /// command here changes them, and none but the container's own processes see it.
    private mutating func warnOfReaders(_ path: String, _ node: JSONNode) {
        guard let rights = environment.fileRights(path), rights.mode & 0o004 != 0,
            !rights.isReadOnly
        else { return }
        let mode = rights.mode
        log.warning(
            ConfigErrorCode.readableByOthers,
            "the file \(quoted(path)) holds a secret and every user may read it (mode "
                + "0\(String(mode & 0o777, radix: 8)))",
            at: node.span, note: "chmod o-r; in Kubernetes defaultMode: 0440")
    }

    private mutating func usable(
        _ text: String, _ place: String, _ origin: String, _ node: JSONNode
    ) -> Secret? {
        guard !text.isEmpty else {
            unavailable("\(place) is empty", node)
            return nil
        }
        guard !text.utf8.contains(0) else {
            unavailable("\(place) contains U+0000", node)
            return nil
        }
        return Secret(text, origin: origin)
    }

    private mutating func unavailable(_ message: String, _ node: JSONNode, note: String? = nil) {
        log.error(ConfigErrorCode.secretUnavailable, message, at: node.span, note: note)
    }
}
