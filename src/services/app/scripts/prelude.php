<?php
// Every script begins with this. `$fanout` holds what it has to know.
error_reporting(E_ALL & ~E_DEPRECATED & ~E_NOTICE & ~E_WARNING);
ini_set('display_errors', 'stderr');
umask(0022);
foreach (['STDIN' => 'r', 'STDOUT' => 'w', 'STDERR' => 'w'] as $fanout_name => $fanout_mode) {
    if (!defined($fanout_name)) {
        define($fanout_name, fopen('php://' . strtolower($fanout_name), $fanout_mode));
    }
}

function fanout_answer(array $answer)
{
    global $fanout;
    fwrite(STDOUT, "\n" . $fanout['word'] . json_encode($answer, JSON_INVALID_UTF8_SUBSTITUTE) . "\n");
    fflush(STDOUT);
}

function fanout_end(array $answer)
{
    fanout_answer($answer);
    exit(0);
}

set_exception_handler(function ($error) {
    fanout_answer(['error' => get_class($error) . ': ' . $error->getMessage()]);
    exit(1);
});
register_shutdown_function(function () {
    $error = error_get_last();
    $fatal = E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR;
    if ($error && ($error['type'] & $fatal)) {
        fanout_answer(['error' => $error['message']
            . ' in ' . basename($error['file']) . ' line ' . $error['line']]);
    }
});

$_SERVER['HTTP_HOST'] = $_SERVER['SERVER_NAME'] = $fanout['host'];
$_SERVER['REQUEST_METHOD'] = 'GET';
$_SERVER['REQUEST_URI'] = $fanout['base'] . '/';
$_SERVER['SCRIPT_NAME'] = $_SERVER['PHP_SELF'] = $fanout['base'] . '/index.php';
$_SERVER['SCRIPT_FILENAME'] = $fanout['docroot'] . '/index.php';
$_SERVER['DOCUMENT_ROOT'] = $fanout['docroot'];
$_SERVER['SERVER_PROTOCOL'] = 'HTTP/1.1';
$_SERVER['SERVER_SOFTWARE'] = 'fanout';
$_SERVER['SERVER_PORT'] = $fanout['is_tls'] ? '443' : '80';
$_SERVER['REMOTE_ADDR'] = '127.0.0.1';
$_SERVER['HTTP_USER_AGENT'] = 'fanout';
if ($fanout['is_tls']) {
    $_SERVER['HTTPS'] = 'on';
}
if (!chdir($fanout['docroot'])) {
    fanout_end(['error' => 'Nothing is at ' . $fanout['docroot']]);
}
