package import WeirCore
package import WeirJSON

/// One thing that is wrong with a configuration file, or that should be known about it.
package struct ConfigDiagnostic: Sendable, Hashable {
    package enum Severity: String, Sendable {
        case error, warning
    }

    package let severity: Severity
    package let code: ErrorCode
    /// Lower case, no period. May hold names from the file, never the text of a secret.
    package let message: String
    /// Stands beside the caret: the nearest valid name, or what to write instead.
    package let note: String?
    /// What it is about; nil for the file as a whole.
    package let span: SourceSpan?
    /// The object that has an unknown key or lacks one, as `weir schema --path` takes it.
    package let objectPath: String?
}

/// Collects diagnostics while a file is checked.
struct DiagnosticLog {
    /// Nobody reads more; it also bounds what a hostile file can make us do.
    static let diagnosticsMax = 100

    private(set) var diagnostics: [ConfigDiagnostic] = []
    private(set) var omittedErrorCount = 0
    /// One connection's fault shows up in every pipeline that uses it, and is said once.
    private var seen: Set<ConfigDiagnostic> = []

    var isFull: Bool { diagnostics.count >= Self.diagnosticsMax }
    var hasErrors: Bool {
        omittedErrorCount > 0 || diagnostics.contains { $0.severity == .error }
    }

    mutating func error(
        _ code: ErrorCode,
        _ message: String,
        at span: SourceSpan?,
        note: String? = nil,
        objectPath: String? = nil
    ) {
        add(.error, code, message, span, note, objectPath)
    }

    mutating func warning(
        _ code: ErrorCode, _ message: String, at span: SourceSpan?, note: String? = nil
    ) {
        add(.warning, code, message, span, note, nil)
    }

    private mutating func add(
        _ severity: ConfigDiagnostic.Severity, _ code: ErrorCode, _ message: String,
        _ span: SourceSpan?, _ note: String?, _ objectPath: String?
    ) {
        let diagnostic = ConfigDiagnostic(
            severity: severity, code: code, message: message, note: note, span: span,
            objectPath: objectPath)
        guard !seen.contains(diagnostic) else { return }
        if isFull {
            if severity == .error { omittedErrorCount += 1 }
            return
        }
        seen.insert(diagnostic)
        diagnostics.append(diagnostic)
    }

    /// In the order of the file; what is about the whole file comes first.
    func sorted() -> [ConfigDiagnostic] {
        diagnostics.enumerated().sorted { left, right in
            let leftStart = left.element.span?.start ?? -1
            let rightStart = right.element.span?.start ?? -1
            return (leftStart, left.offset) < (rightStart, right.offset)
        }.map(\.element)
    }
}

/// A text from the file in quotes, cut if it is absurdly long, and without what may be a password:
/// people put a URL where a name belongs.
func quoted(_ name: String) -> String {
    let lengthMax = 60
    let shown = SecretMask.masked(Array(name.unicodeScalars))
    guard shown.count > lengthMax else { return "\"\(String(String.UnicodeScalarView(shown)))\"" }
    return "\"\(String(String.UnicodeScalarView(shown.prefix(lengthMax))))…\""
}

/// The nearest of `names`; nil when none is close.
func nearestName(to name: String, among names: some Sequence<String>) -> String? {
    // Nobody misspells a name of such a length, and the search is quadratic in it.
    name.utf8.count <= 64 ? names.nearest(to: name) : nil
}

/// The nearest of `names`, worded as a question.
func didYouMean(_ name: String, among names: some Sequence<String>) -> String? {
    nearestName(to: name, among: names).map { "did you mean \"\($0)\"?" }
}
