import WeirJSON

/// One line of the file made fit to print, and where a span lies in it.
struct SourceExcerpt {
    let text: String
    /// In columns of a terminal, from 0.
    let caretStart: Int
    /// At least 1.
    let caretCount: Int

    static let tabWidth = 4
    /// Columns kept before the caret when a long line is cut.
    private static let contextWidth = 30

    /// - Parameters:
    ///   - masks: spans not to show.
    ///   - widthMax: a longer line is cut around the start of the span.
    init(_ source: SourceText, _ span: SourceSpan, masks: Set<SourceSpan>, widthMax: Int) {
        let start = source.position(at: span.start)
        let end = source.position(at: span.end)
        let line = Array(source.line(start.line).unicodeScalars)
        let cells = Self.cells(line, source, start.line, masks)
        var offsets = [0]
        for cell in cells { offsets.append(offsets[offsets.count - 1] + cell.width) }
        let first = min(start.column - 1, line.count)
        var last = end.line == start.line ? min(end.column - 1, line.count) : line.count
        // A value of several lines is underlined to the last thing on its first one.
        while end.line != start.line, last > first, line[last - 1].properties.isWhitespace {
            last -= 1
        }
        let caret = offsets[first]
        let count = max(1, offsets[max(first, last)] - caret)
        let total = offsets[cells.count]
        guard total > widthMax else {
            text = cells.map(\.text).joined()
            caretStart = caret
            caretCount = count
            return
        }
        // Both ends keep a column for the sign that something was cut.
        let window = max(1, widthMax - 2)
        let from = max(0, min(caret - Self.contextWidth, total - window))
        let shown = cells.indices.filter {
            offsets[$0] >= from && offsets[$0] + cells[$0].width <= from + window
        }
        let shownStart = shown.first.map { offsets[$0] } ?? from
        let shownEnd = shown.last.map { offsets[$0] + cells[$0].width } ?? from
        let isCutBefore = shownStart > 0
        let prefix = isCutBefore ? "…" : ""
        text = prefix + shown.map { cells[$0].text }.joined() + (shownEnd < total ? "…" : "")
        caretStart = max(0, caret - shownStart) + prefix.unicodeScalars.count
        caretCount = max(1, min(count, shownEnd - caret))
    }

    private static func cells(
        _ line: [Unicode.Scalar], _ source: SourceText, _ number: Int, _ masks: Set<SourceSpan>
    ) -> [VisibleText.Cell] {
        var masked = SecretMask.ranges(in: line)
        for mask in masks {
            let start = source.position(at: mask.start)
            guard start.line == number else { continue }
            let count = source.position(at: mask.end).column - start.column
            masked.append(start.column - 1..<start.column - 1 + max(0, count))
        }
        var hidden = [Bool](repeating: false, count: line.count)
        for range in masked {
            for index in range where hidden.indices.contains(index) { hidden[index] = true }
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
