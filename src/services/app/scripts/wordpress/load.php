<?php
define('WP_INSTALLING', true);
define('WP_USE_THEMES', false);
// The front page is nobody's business here, and nothing is asked of other servers.
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('WP_ADMIN', true);
if (!is_file('wp-load.php')) {
    fanout_end(['error' => 'There is no wp-load.php']);
}
// Asked for before the settings are there, WordPress would print a page and end.
ob_start();
register_shutdown_function(function () {
    $page = ob_get_clean();
    if ($page) {
        fwrite(STDERR, trim(preg_replace('/\s+/', ' ', html_entity_decode(strip_tags(
            preg_replace('#<(style|script|head)\b.*?</\1>#s', '', $page)
        )))) . "\n");
    }
});
require 'wp-load.php';
