import WeirJSON

/// The part of a line around a place in the file: all of a line people write by hand.
///
/// A minified file may be one line of 4 MiB, and there may be a hundred diagnostics about it.
struct LineWindow {
    /// Far more than is ever shown, so that a secret that starts before is still recognised.
    private static let bytesBefore = 8192
    private static let bytesAfter = 2048

    let scalars: [Unicode.Scalar]
    /// Where each scalar starts in the file, and where the last one ends.
    let offsets: [Int]
    let isCutBefore: Bool
    let isCutAfter: Bool

    init(_ bytes: [UInt8], around offset: Int) {
        func isBreak(_ index: Int) -> Bool { bytes[index] == 0x0A || bytes[index] == 0x0D }
        func isInsideScalar(_ index: Int) -> Bool { bytes[index] & 0xC0 == 0x80 }
        var offset = min(max(offset, 0), bytes.count)
        // The line feed of a CRLF belongs to the line before it.
        if offset > 0, offset < bytes.count, bytes[offset] == 0x0A, bytes[offset - 1] == 0x0D {
            offset -= 1
        }
        var start = offset
        while start > 0, offset - start < Self.bytesBefore, !isBreak(start - 1) { start -= 1 }
        isCutBefore = start > 0 && !isBreak(start - 1)
        if isCutBefore { while start < offset, isInsideScalar(start) { start += 1 } }
        var end = offset
        while end < bytes.count, end - offset < Self.bytesAfter, !isBreak(end) { end += 1 }
        isCutAfter = end < bytes.count && !isBreak(end)
        if isCutAfter { while end > offset, isInsideScalar(end) { end -= 1 } }
        scalars = Array(String(decoding: bytes[start..<end], as: UTF8.self).unicodeScalars)
        var offsets = [start]
        offsets.reserveCapacity(scalars.count + 1)
        for scalar in scalars {
            offsets.append(offsets[offsets.count - 1] + UTF8.width(scalar))
        }
        self.offsets = offsets
    }

    /// The scalars of a span, as far as it lies in the window.
    func range(of span: SourceSpan) -> Range<Int> {
        let first = offsets.firstIndex { $0 >= span.start } ?? scalars.count
        let last = offsets[first...].firstIndex { $0 >= span.end } ?? scalars.count
        return first..<max(first, last)
    }
}

/// One line of the file made fit to print, and where a span lies in it.
struct SourceExcerpt {
    let text: String
    /// In columns of a terminal, from 0.
    let caretStart: Int
    /// At least 1.
    let caretCount: Int

    private static let tabWidth = 4
    /// Columns kept before the caret when a long line is cut.
    private static let contextWidth = 30

    /// - Parameters:
    ///   - masks: spans not to show.
    ///   - widthMax: a longer line is cut around the start of the span.
    init(_ source: SourceText, _ span: SourceSpan, masks: Set<SourceSpan>, widthMax: Int) {
        let window = LineWindow(source.bytes, around: span.start)
        let cells = Self.cells(window, masks)
        var columns = [0]
        for cell in cells { columns.append(columns[columns.count - 1] + cell.width) }
        let range = window.range(of: span)
        var last = range.upperBound
        // A value of several lines is underlined to the last thing on its first one.
        while last > range.lowerBound, window.scalars[last - 1].properties.isWhitespace {
            last -= 1
        }
        let caret = columns[range.lowerBound]
        let count = max(1, columns[last] - caret)
        let total = columns[cells.count]
        guard total > widthMax else {
            text = cells.map(\.text).joined()
            caretStart = caret
            caretCount = count
            return
        }
        // Both ends keep a column for the sign that something was cut.
        let width = max(1, widthMax - 2)
        let from = max(0, min(caret - Self.contextWidth, total - width))
        let shown = cells.indices.filter {
            columns[$0] >= from && columns[$0] + cells[$0].width <= from + width
        }
        let shownStart = shown.first.map { columns[$0] } ?? from
        let shownEnd = shown.last.map { columns[$0] + cells[$0].width } ?? from
        let prefix = shownStart > 0 || window.isCutBefore ? "…" : ""
        let suffix = shownEnd < total || window.isCutAfter ? "…" : ""
        text = prefix + shown.map { cells[$0].text }.joined() + suffix
        caretStart = max(0, caret - shownStart) + prefix.unicodeScalars.count
        caretCount = max(1, min(count, shownEnd - caret))
    }

    private static func cells(
        _ window: LineWindow, _ masks: Set<SourceSpan>
    ) -> [VisibleText.Cell] {
        let line = window.scalars
        let first = window.offsets[0]
        let end = window.offsets[line.count]
        var masked = SecretMask.ranges(in: line)
        for mask in masks where mask.start < end && mask.end > first {
            masked.append(window.range(of: mask))
        }
        var hidden = [Bool](repeating: false, count: line.count)
        for range in masked {
            for index in range { hidden[index] = true }
        }
        var cells: [VisibleText.Cell] = []
        var column = 0
        for (index, scalar) in line.enumerated() {
            let cell: VisibleText.Cell
            if hidden[index] {
                // One sign for the whole, so that not even its length shows.
                let isFirst = index == 0 || !hidden[index - 1]
                cell = VisibleText.Cell(text: isFirst ? "***" : "", width: isFirst ? 3 : 0)
            } else if scalar == "\t" {
                let width = tabWidth - column % tabWidth
                cell = VisibleText.Cell(text: String(repeating: " ", count: width), width: width)
            } else {
                cell = VisibleText.cell(scalar)
            }
            column += cell.width
            cells.append(cell)
        }
        return cells
    }
}
