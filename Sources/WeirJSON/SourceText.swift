/// A range of bytes in a source text: `start` included, `end` excluded.
package struct SourceSpan: Sendable, Hashable {
    package let start: Int
    package let end: Int

    package init(start: Int, end: Int) {
        self.start = start
        self.end = end
    }
}

/// A place in a source text as a person reads it.
package struct SourcePosition: Sendable, Hashable {
    /// 1-based.
    package let line: Int
    /// 1-based, counted in Unicode scalars.
    package let column: Int

    package init(line: Int, column: Int) {
        self.line = line
        self.column = column
    }
}

/// A text with an index of its lines, for messages that say `line:column` and show the line.
///
/// A line ends at LF, CRLF or a lone CR, because that is what editors show. Bytes that are not
/// valid UTF-8 are shown, and counted, as U+FFFD.
package struct SourceText: Sendable {
    package let bytes: [UInt8]
    /// The offset of the first byte of each line; never empty.
    private let lineStarts: [Int]

    /// - Complexity: O(bytes).
    package init(_ bytes: [UInt8]) {
        self.bytes = bytes
        var starts = [0]
        for (offset, byte) in bytes.enumerated() {
            let next = offset + 1
            let isLoneCR = byte == ASCII.cr && (next == bytes.count || bytes[next] != ASCII.lf)
            if byte == ASCII.lf || isLoneCR { starts.append(next) }
        }
        lineStarts = starts
    }

    /// A text that ends with a line break has an empty last line.
    package var lineCount: Int { lineStarts.count }

    /// Where a byte offset is; an offset outside the text is moved to its nearest end.
    ///
    /// - Complexity: O(log lines + length of the line).
    package func position(at offset: Int) -> SourcePosition {
        let offset = min(max(offset, 0), bytes.count)
        let index = lineIndex(of: offset)
        let before = String(decoding: bytes[lineStarts[index]..<offset], as: UTF8.self)
        return SourcePosition(line: index + 1, column: before.unicodeScalars.count + 1)
    }

    /// The text of a 1-based line without its line break; empty if there is no such line.
    ///
    /// - Complexity: O(length of the line).
    package func line(_ number: Int) -> String {
        guard number >= 1, number <= lineStarts.count else { return "" }
        let start = lineStarts[number - 1]
        var end = number < lineStarts.count ? lineStarts[number] : bytes.count
        while end > start, bytes[end - 1] == ASCII.lf || bytes[end - 1] == ASCII.cr { end -= 1 }
        return String(decoding: bytes[start..<end], as: UTF8.self)
    }

    /// The last line that starts at or before `offset`.
    private func lineIndex(of offset: Int) -> Int {
        var low = 0
        var high = lineStarts.count
        while high - low > 1 {
            let middle = low + (high - low) / 2
            if lineStarts[middle] <= offset { low = middle } else { high = middle }
        }
        return low
    }
}
