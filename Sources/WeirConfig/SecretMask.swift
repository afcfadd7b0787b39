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
            return !urlPasswords(scalars, isURL: true).isEmpty
                || !assignedPasswords(scalars).isEmpty
        }
        return key != "url" && key != "uri"
    }

    // MARK: A line of the file

    /// The columns (0-based, in scalars) of a line that look like secrets.
    static func ranges(in line: [Unicode.Scalar]) -> [Range<Int>] {
        urlPasswords(line, isURL: false) + assignedPasswords(line) + keyedSecrets(line)
    }

    /// A text with `***` for what looks like a secret.
    static func masked(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
        var text = text
        for range in ranges(in: text).sorted(by: { $0.lowerBound > $1.lowerBound })
        where range.upperBound <= text.count {
            text.replaceSubrange(range, with: ["*", "*", "*"])
        }
        return text
    }

    /// A syntax error's message, without what it quotes if that may be a secret.
    static func redacted(_ error: JSONSyntaxError, in bytes: [UInt8]) -> String {
        let window = LineWindow(bytes, around: error.span.start)
        let place = window.range(of: error.span)
        let touches = ranges(in: window.scalars).contains {
            $0.lowerBound < max(place.upperBound, place.lowerBound + 1)
                && place.lowerBound < $0.upperBound
        }
        return touches ? "not valid JSON" : error.message
    }

    /// `scheme://user:PASSWORD@host`.
    ///
    /// - Parameter isURL: the text is one URL; else it has one somewhere, perhaps a broken one.
    private static func urlPasswords(_ text: [Unicode.Scalar], isURL: Bool) -> [Range<Int>] {
        var found: [Range<Int>] = []
        var from = 0
        while let start = find("://", in: text, from: from) {
            let begin = start + 3
            let end =
                text.indices[begin...].first {
                    isURL ? text[$0] == "/" || text[$0] == "?" : isEnd($0, of: text)
                } ?? text.count
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
        let lowered = text.map(lowercased)
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
        let lowered = text.map(lowercased)
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

    /// A blank, or a quote that closes a string of well-formed JSON.
    private static func isEnd(_ index: Int, of text: [Unicode.Scalar]) -> Bool {
        if text[index] == " " || text[index] == "\t" { return true }
        guard text[index] == "\"" else { return false }
        return index + 1 == text.count || ",:}] \t".unicodeScalars.contains(text[index + 1])
    }

    private static func lowercased(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
        ("A"..."Z").contains(scalar) ? Unicode.Scalar(UInt8(scalar.value) | 0x20) : scalar
    }

    private static func find(
        _ needle: String, in text: [Unicode.Scalar], from start: Int
    ) -> Int? {
        let needle = Array(needle.unicodeScalars)
        guard let first = needle.first, text.count - start >= needle.count else { return nil }
        return (start...text.count - needle.count).first {
            text[$0] == first && text[$0..<$0 + needle.count].elementsEqual(needle)
        }
    }
}
