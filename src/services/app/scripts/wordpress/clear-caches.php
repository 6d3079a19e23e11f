<?php
wp_cache_flush();
if (function_exists('delete_expired_transients')) {
    delete_expired_transients(true);
}
fanout_end(['changed' => true, 'message' => 'the object cache was emptied']);
