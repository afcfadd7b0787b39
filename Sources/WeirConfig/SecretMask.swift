import WeirJSON

/// What must never be seen though it stands in the file: passwords and the like.
///
/// Literal secrets are known by their place once the file is parsed. Where it cannot be parsed, or
/// a key is misspelt, this finds what looks like one; it hides too much rather than too little.
enum SecretMask {
    private static let secretWords = [
        "password", "passwd", "secret", "token", "credential", "private_key", "api_key",
    ]

    // MARK: Text of a secret field

    /// Whether a literal secret holds a password, and is not merely an address without one.
    static func holdsPassword(_ text: String, key: String) -> Bool {
        let scalars = Array(text.unicodeScalars)
        if find("://", in: scalars, from: 0) != nil || text.contains("=") {
            return !urlPasswords(scalars).isEmpty || !assignedPasswords(scalars).isEmpty
        }
        return key != "url" && key != "uri"
    }

    // MARK: A line of the file

    /// The columns (0-based, in scalars) of a line that look like secrets.
    static func ranges(in line: [Unicode.Scalar]) -> [Range<Int>] {
        urlPasswords(line) + assignedPasswords(line) + keyedSecrets(line)
    }

    /// A syntax error's message, without what it quotes if that may be a secret.
    static func redacted(_ error: JSONSyntaxError, in bytes: [UInt8]) -> String {
        let source = SourceText(bytes)
        let start = source.position(at: error.span.start)
        let end = source.position(at: error.span.end)
        let line = Array(source.line(start.line).unicodeScalars)
        let last = end.line == start.line ? end.column - 1 : line.count
        let touches = ranges(in: line).contains {
            $0.lowerBound < max(last, start.column) && start.column - 1 < $0.upperBound
        }
        return touches ? "not valid JSON" : error.message
    }

    /// `scheme://user:PASSWORD@host`.
    private static func urlPasswords(_ text: [Unicode.Scalar]) -> [Range<Int>] {
        var found: [Range<Int>] = []
        var from = 0
        while let start = find("://", in: text, from: from) {
            let begin = start + 3
            let end = text[begin...].firstIndex { isEnd($0) } ?? text.count
            from = end
            // The last @, because a careless password has one too.
            guard let at = text[begin..<end].lastIndex(of: "@"),
                let colon = text[begin..<at].firstIndex(of: ":"), colon + 1 < at
            else { continue }
            found.append(colon + 1..<at)
        }
        return found
    }

    /// `password=…` in a URL's query or a key=value string.
    private static func assignedPasswords(_ text: [Unicode.Scalar]) -> [Range<Int>] {
        let lowered = text.map { $0.properties.lowercaseMapping.unicodeScalars.first ?? $0 }
        var found: [Range<Int>] = []
        var from = 0
        while let start = find("password=", in: lowered, from: from) {
            let begin = start + 9
            let end = text[begin...].firstIndex { $0 == "\"" || $0 == "&" } ?? text.count
            if begin < end { found.append(begin..<end) }
            from = end
        }
        return found
    }

    /// `"…password…": VALUE`, where the value is no object.
    private static func keyedSecrets(_ text: [Unicode.Scalar]) -> [Range<Int>] {
        let lowered = text.map { $0.properties.lowercaseMapping.unicodeScalars.first ?? $0 }
        var found: [Range<Int>] = []
        for word in secretWords {
            var from = 0
            while let start = find(word, in: lowered, from: from) {
                from = start + word.unicodeScalars.count
                guard let colon = text[from...].firstIndex(where: { $0 == ":" || $0 == "," }),
                    text[colon] == ":",
                    let begin = text[(colon + 1)...].firstIndex(where: { $0 != " " && $0 != "\t" }),
                    text[begin] != "{"
                else { continue }
                let close = text[(begin + 1)...].firstIndex(of: "\"")
                let end = text[begin] == "\"" ? close.map { $0 + 1 } ?? text.count : text.count
                found.append(begin..<end)
                from = end
            }
        }
        return found
    }

    private static func isEnd(_ scalar: Unicode.Scalar) -> Bool {
        scalar == "\"" || scalar == " " || scalar == "\t"
    }

    private static func find(
        _ needle: String, in text: [Unicode.Scalar], from start: Int
    ) -> Int? {
        let needle = Array(needle.unicodeScalars)
        guard start >= 0, text.count - start >= needle.count else { return nil }
        return (start...text.count - needle.count).first {
            text[$0..<$0 + needle.count].elementsEqual(needle)
        }
    }
}
