import WeirCore
import WeirJSON

extension ConfigCheck {
    /// Everything found, as people read it: place, line of the file, caret, what to do.
    ///
    /// - Parameters:
    ///   - colored: with ANSI colours.
    ///   - outcome: what the errors led to, for the last line.
    ///   - showsRights: whether warnings about who may read a file are for this reader: they are
    ///     for who starts or checks, and not for every look at a running daemon.
    package func rendered(
        colored: Bool = false, outcome: String? = "nothing was started", showsRights: Bool = true
    ) -> String {
        let style = Style(isColored: colored)
        var lines: [String] = []
        for diagnostic in diagnostics
        where showsRights || diagnostic.code != ConfigErrorCode.readableByOthers {
            lines += rendered(diagnostic, style)
        }
        if omittedErrorCount > 0 { lines.append("and \(omittedErrorCount) more") }
        if let summary = summary(outcome) { lines.append(style.bold(summary)) }
        return lines.map { $0 + "\n" }.joined()
    }

    /// The last line; nil when there is no error.
    private func summary(_ outcome: String?) -> String? {
        guard errorCount > 0 else { return nil }
        var text = errorCount == 1 ? "1 error" : "\(errorCount) errors"
        if !warnings.isEmpty {
            text += warnings.count == 1 ? ", 1 warning" : ", \(warnings.count) warnings"
        }
        if let outcome { text += ", \(outcome)" }
        text += "."
        if let path = diagnostics.compactMap(\.objectPath).first {
            text += " Fields here: weir schema --path \(path.isEmpty ? "." : path)"
        }
        return text
    }

    private func rendered(_ diagnostic: ConfigDiagnostic, _ style: Style) -> [String] {
        let kind = style.severity(
            "\(diagnostic.severity.rawValue) \(diagnostic.code.name)", diagnostic.severity)
        let message = VisibleText.of(diagnostic.message)
        let file = VisibleText.of(fileName)
        guard let span = diagnostic.span else {
            let note = diagnostic.note.map { ["  \(VisibleText.of($0))"] } ?? []
            return ["\(style.bold(file + ":")) \(kind): \(message)"] + note
        }
        let position = source.position(at: span.start)
        let place = "\(file):\(position.line):\(position.column):"
        return ["\(style.bold(place)) \(kind): \(message)"]
            + excerpt(diagnostic, span, position, style)
    }

    private func excerpt(
        _ diagnostic: ConfigDiagnostic, _ span: SourceSpan, _ position: SourcePosition,
        _ style: Style
    ) -> [String] {
        let widthMax = 100
        let number = "\(position.line)"
        let blanks = { (count: Int) in String(repeating: " ", count: max(0, count)) }
        let gutterWidth = max(5, number.utf8.count)
        let gutter = gutterWidth + 3
        let excerpt = SourceExcerpt(source, span, masks: masks, widthMax: widthMax - gutter)
        let line =
            style.dim(blanks(gutterWidth - number.utf8.count) + number + " |")
            + (excerpt.text.isEmpty ? "" : " " + excerpt.text)
        let margin = style.dim(blanks(gutterWidth + 1) + "|")
        let carets = style.severity(
            String(repeating: "^", count: excerpt.caretCount), diagnostic.severity)
        let under = margin + " " + blanks(excerpt.caretStart) + carets
        guard let note = diagnostic.note.map(VisibleText.of) else { return [line, under] }
        let noteWidth = VisibleText.width(note)
        if gutter + excerpt.caretStart + excerpt.caretCount + 1 + noteWidth <= widthMax {
            return [line, under + " " + note]
        }
        // No room beside the caret: below it, as far right as fits.
        let indent = min(excerpt.caretStart, widthMax - gutter - noteWidth)
        return [line, under, margin + " " + blanks(indent) + note]
    }
}

/// ANSI colours, or none.
private struct Style {
    let isColored: Bool

    func bold(_ text: String) -> String { wrap("1", text) }
    func dim(_ text: String) -> String { wrap("2", text) }
    func severity(_ text: String, _ severity: ConfigDiagnostic.Severity) -> String {
        wrap(severity == .error ? "1;31" : "1;33", text)
    }

    private func wrap(_ code: String, _ text: String) -> String {
        isColored ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text
    }
}
