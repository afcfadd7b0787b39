package import WeirCore
package import WeirJSON

/// Turns a configuration file into a checked configuration, or says everything that is wrong.
package struct ConfigLoader: Sendable {
    let descriptors: [ConnectorDescriptor]

    package init(descriptors: [ConnectorDescriptor]) {
        self.descriptors = descriptors
    }

    /// Reads and checks a file. The only I/O is reading it and the secrets it names.
    package func load(
        path: String, environment: ConfigEnvironment = .process
    ) -> ConfigCheck {
        // One byte above what the parser takes, so that it is told apart from a missing file.
        let read = RegularFile.read(
            path, bytesMax: JSONDocument.bytesMax + 1, allowsPipes: true)
        switch read {
        case .success(let content):
            return check(
                bytes: content.bytes, fileName: path, environment: environment,
                fileMode: content.mode)
        case .failure(let fault):
            var log = DiagnosticLog()
            let isTooLarge = fault.reason.hasPrefix("it is larger")
            if isTooLarge {
                log.error(ConfigErrorCode.tooLarge, Self.tooLargeMessage, at: nil)
            } else {
                log.error(
                    ConfigErrorCode.unreadable, "could not read the file: \(fault.reason)", at: nil)
            }
            return ConfigCheck(fileName: path, bytes: [], log: log)
        }
    }

    /// Checks a text that was read already.
    ///
    /// - Parameter fileMode: the rights of the file, where it is one.
    package func check(
        bytes: [UInt8],
        fileName: String,
        environment: ConfigEnvironment = .process,
        fileMode: UInt32? = nil
    ) -> ConfigCheck {
        var log = DiagnosticLog()
        guard bytes.count <= JSONDocument.bytesMax else {
            log.error(ConfigErrorCode.tooLarge, Self.tooLargeMessage, at: nil)
            return ConfigCheck(fileName: fileName, bytes: [], log: log)
        }
        let root: JSONNode
        do throws(JSONSyntaxError) {
            root = try JSONDocument.parse(bytes)
        } catch {
            log.error(
                isPlainUTF8(bytes) ? ConfigErrorCode.syntax : ConfigErrorCode.encoding,
                SecretMask.redacted(error, in: bytes), at: error.span)
            return ConfigCheck(fileName: fileName, bytes: bytes, log: log)
        }
        var checker = ConfigChecker(
            descriptors: descriptors, environment: environment, source: SourceText(bytes))
        let configuration = checker.configuration(root)
        checker.warnOfRights(fileMode)
        return ConfigCheck(
            fileName: fileName, bytes: bytes, log: checker.log, masks: checker.masks,
            configuration: configuration)
    }

    private static let tooLargeMessage =
        "the file is larger than \(SizeNotation.text(JSONDocument.bytesMax))"

    private func isPlainUTF8(_ bytes: [UInt8]) -> Bool {
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { return false }
        return unsafe bytes.withUnsafeBytes { unsafe isValidUTF8($0) }
    }
}

/// The outcome of checking one file.
package struct ConfigCheck: Sendable {
    package let fileName: String
    package let source: SourceText
    /// Present exactly when there is no error.
    package let configuration: Configuration?
    /// Errors and warnings in the order of the file.
    package let diagnostics: [ConfigDiagnostic]
    /// Errors beyond the first hundred diagnostics.
    package let omittedErrorCount: Int
    /// Literal secrets, which no excerpt shows.
    let masks: Set<SourceSpan>

    package var bytes: [UInt8] { source.bytes }
    package var errors: [ConfigDiagnostic] { diagnostics.filter { $0.severity == .error } }
    package var warnings: [ConfigDiagnostic] { diagnostics.filter { $0.severity == .warning } }
    package var errorCount: Int { errors.count + omittedErrorCount }

    init(
        fileName: String,
        bytes: [UInt8],
        log: DiagnosticLog,
        masks: Set<SourceSpan> = [],
        configuration: Configuration? = nil
    ) {
        self.fileName = fileName
        source = SourceText(bytes)
        diagnostics = log.sorted()
        omittedErrorCount = log.omittedErrorCount
        self.masks = masks
        self.configuration = log.hasErrors ? nil : configuration
    }

    /// Where a diagnostic points; nil when it is about the file as a whole.
    package func position(of diagnostic: ConfigDiagnostic) -> SourcePosition? {
        diagnostic.span.map { source.position(at: $0.start) }
    }
}
